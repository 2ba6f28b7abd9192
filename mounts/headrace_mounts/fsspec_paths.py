"""What fsspec's file system makes of a path: literal, absolute, and of its own tree alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace_mounts.node_urls import node_in, without_node
from headrace_namespace.errors import InvalidPath
from headrace_namespace.path import SCHEME, NamespacePath

if TYPE_CHECKING:
    # fsspec publishes no types.
    AsyncFileSystem = Any
else:
    from fsspec.asyn import AsyncFileSystem


class _Stripping:
    """fsspec asks the class for the path in any URL, and a file system before it does anything with
    a path: there the URL of another node is refused, or what lies here by that path would be read
    in its place, and deleted."""

    def __get__(self, tree: TreePaths | None, kind: type[TreePaths]) -> Callable[[Any], Any]:
        return _stripped if tree is None else partial(_stripped, place=tree.place)


class TreePaths(AsyncFileSystem):  # type: ignore[misc] # Any to the type checkers
    """The paths of one tree: this process's, or that of a node."""

    protocol = SCHEME
    root_marker = "/"
    _node: str | None = None

    _strip_protocol = _Stripping()

    def unstrip_protocol(self, name: str) -> str:
        """The URL of a path: paths are literal, so this only puts scheme and node before it."""
        return f"{SCHEME}://{self._node or ''}{self._strip_protocol(name)}"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        node = node_in(path)
        return {} if node is None else {"node": node}

    def place(self, path: str) -> NamespacePath:
        """A path of this tree; a URL may name the node that it is of, and no other."""
        if path.startswith(SCHEME):
            node = node_in(path)
            if node is not None and node != self._node:
                raise InvalidPath(
                    f"this file system is not of the node {node}",
                    path=path,
                    hint="open the URL by fsspec itself, or give node=",
                )
            path = without_node(path)
        return NamespacePath.parse(path)


def _any_place(path: str) -> NamespacePath:
    return NamespacePath.parse(without_node(path))


def _stripped(path: Any, place: Callable[[str], NamespacePath] = _any_place) -> Any:
    if isinstance(path, str):
        return place(path).text
    if isinstance(path, os.PathLike):
        return NamespacePath.parse(str(path)).text  # pyright: ignore[reportUnknownArgumentType]
    return [_stripped(one, place) for one in path]
