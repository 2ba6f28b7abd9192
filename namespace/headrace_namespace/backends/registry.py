"""Which backend answers for which kind of URL; each is imported only when it is used."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from typing import cast

from headrace_namespace.backends.protocol import Backend, BackendContext
from headrace_namespace.config import Table
from headrace_namespace.errors import ConfigError

_Builder = Callable[[str, Table, BackendContext], Backend]

#: Scheme -> module, builder, and the extra of the distribution that brings what it needs.
_KNOWN: dict[str, tuple[str, str, str | None]] = {
    "file": ("headrace_namespace.backends.local", "open_local", None),
    "s3": ("headrace_namespace.backends.s3.backend", "open_s3", "s3"),
}
#: What other tools call a scheme that we know.
_ALSO_CALLED = {"s3a": "s3", "s3n": "s3", "local": "file"}
#: `s3:bucket`, `file:/x`: meant as a URL, though a folder could have such a name.
_HALF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/?[^/].*)?", re.DOTALL)


def open_backend(url: str, options: Table, context: BackendContext) -> Backend:
    """The store behind `url`, bare of wrappers; a text without a scheme is a local path.

    Touches no network. Raises ConfigError for an unknown scheme, a missing extra, wrong options.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        _refuse_half_url(url, options)
        scheme = "file"
    known = _KNOWN.get(scheme)
    if known is None:
        raise options.error_beside(
            "url",
            f"no backend knows URLs that begin with {scheme}://",
            f"{_meant(scheme)}known: {', '.join(f'{name}://' for name in _KNOWN)}, and local paths",
        )
    module, builder, extra = known
    try:
        build = cast(_Builder, getattr(importlib.import_module(module), builder))
        return build(url, options, context)
    except ModuleNotFoundError as error:
        if extra is None or (error.name or "").startswith("headrace"):
            raise
        raise ConfigError(
            f"{scheme}:// needs the package {error.name}, which is not installed",
            hint=f"needs: pip install 'headrace[{extra}]'",
        ) from error


def _refuse_half_url(url: str, options: Table) -> None:
    found = _HALF_URL.fullmatch(url)
    if found is None:
        return
    scheme = _nearest(found[1].lower())
    if scheme is None:
        return
    rest = (found[2] or "").lstrip("/")
    whole = f"file:///{rest}" if scheme == "file" else f"{scheme}://{rest}"
    raise options.error_beside(
        "url",
        f"{url!r} is not a whole URL",
        f"write {whole}; for a folder of this name write ./{url}",
    )


def _nearest(scheme: str) -> str | None:
    """The known scheme that is meant by another spelling."""
    lower = scheme.lower()
    return lower if lower in _KNOWN else _ALSO_CALLED.get(lower)


def _meant(scheme: str) -> str:
    if scheme.lower() in ("gs", "gcs"):
        return (
            "Google's store also speaks S3: an s3:// url with endpoint_url = "
            '"https://storage.googleapis.com" may serve, but is not tested; '
        )
    close = difflib.get_close_matches(scheme.lower(), _KNOWN, n=1, cutoff=0.7)
    nearest = _nearest(scheme) or (close[0] if close else None)
    return f"did you mean {nearest}://? " if nearest else ""
