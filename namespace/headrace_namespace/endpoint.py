"""Where something listens that speaks HTTP. Pure: asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a store listens: `http` or `https`, host, port, and a path that all keys lie below."""

    scheme: str
    host: str
    port: int
    base: str = ""

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """The endpoint in `url`. Raises ValueError, whose text never repeats a password."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("this is not a URL") from None
        if "@" in parts.netloc:
            raise ValueError("credentials do not belong in a URL")
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise ValueError(f"{url!r} does not start with http:// or https:// and a host")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or a fragment, which an endpoint cannot have")
        return cls(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as the Host header says it: the usual port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.base}"
