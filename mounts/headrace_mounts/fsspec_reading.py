"""What fsspec's reading calls need beside a file: ranges as fsspec writes them, and a file that is
copied to a disk."""

from __future__ import annotations

import operator
from typing import Any

from headrace_mounts.handles import HeadraceFile
from headrace_namespace.errors import PolicyDenied


class FileForDisk(HeadraceFile):
    """A file that is copied to a disk: refused as soon as the policy restricts it, also midway."""

    def read(self, size: int | None = -1, /) -> bytes:
        """As `HeadraceFile.read`. Raises PolicyDenied where it may not lie on a disk."""
        data = super().read(size)
        if self.restricted:
            raise plain_copy_refusal(self.path)
        return data


def plain_copy_refusal(path: str) -> PolicyDenied:
    """Why what the policy restricts is not read by who writes it to a disk."""
    return PolicyDenied(
        f"{path} may not be kept on a disk, and this way of reading would write it to one",
        path=path,
        hint="read it by headrace:/// alone, or copy it yourself with get_file(..., to_disk=True)",
    )


def read_range(file: HeadraceFile, start: int | None, end: int | None) -> bytes:
    """The bytes of a range; negative positions count from the end."""
    begin = min(_from_end(start, 0, file.size), file.size)
    file.seek(begin)
    return file.read(max(_from_end(end, file.size, file.size) - begin, 0))


def _from_end(position: int | None, default: int, size: int) -> int:
    if position is None:
        return default
    return max(position + size, 0) if position < 0 else position


def nth(values: Any, index: int, count: int) -> int | None:
    """The position of one of several paths, where one position may stand for all."""
    if values is None or hasattr(values, "__index__"):
        return None if values is None else operator.index(values)
    if len(values) != count:
        raise ValueError(f"{count} paths, but {len(values)} positions")
    value = values[index]
    return None if value is None else operator.index(value)
