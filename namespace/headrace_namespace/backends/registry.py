"""Which backend answers for which kind of URL; each is imported only when it is used."""

from __future__ import annotations

import importlib
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


def open_backend(url: str, options: Table, context: BackendContext) -> Backend:
    """The store behind `url`, bare of wrappers; a text without a scheme is a local path.

    Touches no network. Raises ConfigError for an unknown scheme, a missing extra, wrong options.
    """
    scheme, separator, _ = url.partition("://")
    if not separator:
        scheme = "file"
    known = _KNOWN.get(scheme)
    if known is None:
        raise ConfigError(
            f"no backend knows URLs that begin with {scheme}://",
            hint=f"known: {', '.join(f'{name}://' for name in _KNOWN)}, and local paths",
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
