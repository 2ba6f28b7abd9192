"""Which mount answers: the longest prefix wins, mounts nest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_namespace.mount_table import Mount, MountTable
from headrace_namespace.path import NamespacePath


def table(*paths: str) -> MountTable:
    return MountTable(
        Mount(NamespacePath(path), f"s3://{index}") for index, path in enumerate(paths)
    )


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/", None),
        ("/other", None),
        ("/lake", "/lake"),
        ("/lake/x", "/lake"),
        ("/lakes", None),
        ("/lake/hr", "/lake/hr"),
        ("/lake/hr/a/b", "/lake/hr"),
        ("/lake/hrx", "/lake"),
        ("/deep/er", None),
        ("/deep/er/still", "/deep/er/still"),
    ],
)
def test_the_longest_prefix_wins(path: str, mount: str | None) -> None:
    found = table("/lake", "/lake/hr", "/deep/er/still").find(NamespacePath(path))
    assert (found.path.text if found else None) == mount


def test_a_mount_at_the_root_answers_for_the_rest() -> None:
    both = table("/", "/lake")
    for path, mount in (("/", "/"), ("/x", "/"), ("/lake/x", "/lake")):
        found = both.find(NamespacePath(path))
        assert found is not None and found.path.text == mount


def test_names_that_mounts_put_into_a_folder() -> None:
    mounts = table("/lake", "/lake/a/b", "/lake/c", "/raw/x", "/raw/y")
    below = {
        folder: {
            name: point.text if point else None
            for name, point in mounts.names_below(NamespacePath(folder)).items()
        }
        for folder in ("/", "/lake", "/lake/a", "/raw", "/lake/c", "/nowhere")
    }
    assert below == {
        "/": {"lake": "/lake", "raw": None},
        "/lake": {"a": None, "c": "/lake/c"},
        "/lake/a": {"b": "/lake/a/b"},
        "/raw": {"x": "/raw/x", "y": "/raw/y"},
        "/lake/c": {},
        "/nowhere": {},
    }


@pytest.mark.parametrize("paths", [("/a", "/a/b"), ("/a/b", "/a")])
def test_a_mount_point_is_one_in_whichever_order_mounts_come(paths: tuple[str, ...]) -> None:
    assert table(*paths).names_below(NamespacePath("/")) == {"a": NamespacePath("/a")}


def test_two_mounts_at_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="/a"):
        table("/a", "/b", "/a")


def test_an_empty_table() -> None:
    assert table().find(NamespacePath("/a")) is None
    assert table().mounts == ()
    assert table().names_below(NamespacePath("/")) == {}


PATHS = st.lists(st.sampled_from("abc"), max_size=4).map(lambda names: "/" + "/".join(names))


@given(st.sets(PATHS, max_size=6), PATHS)
def test_a_found_mount_is_the_longest_that_leads_there(mounts: set[str], text: str) -> None:
    path = NamespacePath(text)
    leading = [mount for mount in mounts if path.is_under(NamespacePath(mount))]
    found = table(*mounts).find(path)
    assert (found.path.text if found else None) == max(leading, key=len, default=None)
    assert [mount.path.text for mount in table(*mounts).mounts] == sorted(mounts)
