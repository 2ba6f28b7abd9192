"""Which objects a pattern means, beside a model that asks each path by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_mounts.selecting import Unlisted, objects_at
from headrace_namespace.errors import NotFound
from headrace_namespace.path import NamespacePath
from tests.fakes.local_cache import Rig
from tests.fakes.memory_backend import MemoryBackend

NAMES = ["a", "b", "ab", "abc"]
OBJECTS = ["a/x", "a/b/x", "a/b/ab/abc", "ab", "abc/a", "abc/b/b", "b/b/b/b"]


@pytest.fixture(scope="module")
def tree() -> Iterator[Rig]:
    lake = MemoryBackend("memory:lake")
    for name in OBJECTS:
        lake.set(name, b"1")
    rig = Rig({"/lake": lake})
    yield rig
    rig.service.close()


def covers(pattern: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the pattern matches these names or a folder above them."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return covers(pattern[1:], names) or (bool(names) and covers(pattern, names[1:]))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and covers(pattern[1:], names[1:])


PARTS = st.lists(st.sampled_from([*NAMES, "*", "**", "?", "a*", "*b", "a?c", "x"]), max_size=5)


@given(parts=PARTS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pattern_means_what_the_model_says(tree: Rig, parts: list[str]) -> None:
    found = list(objects_at(tree.service, NamespacePath.parse("/lake/" + "/".join(parts))))
    expected = {f"/lake/{name}" for name in OBJECTS if covers(parts, name.split("/"))}
    paths = [entry.path.text for entry in found if not isinstance(entry, Unlisted)]
    assert len(paths) == len(set(paths))
    assert set(paths) == expected
    errors = [entry.error for entry in found if isinstance(entry, Unlisted)]
    assert all(isinstance(error, NotFound) for error in errors)
    assert bool(errors) == (not expected)


def test_only_folders_that_can_match_are_listed(tree: Rig) -> None:
    lake = tree.backends["/lake"]
    assert isinstance(lake, MemoryBackend)
    before = lake.asked["list"]
    found = list(objects_at(tree.service, NamespacePath.parse("/lake/a/*/x")))
    assert [entry.path.text for entry in found] == ["/lake/a/b/x"]
    assert lake.asked["list"] - before <= 2
