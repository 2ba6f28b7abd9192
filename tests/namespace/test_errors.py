"""One family of errors, each also the error that Python's own users expect."""

from __future__ import annotations

import copy
import errno
import pickle
from collections.abc import Iterator

import pytest

from headrace_namespace import errors
from headrace_namespace.errors import ConfigError, HeadraceError, NotFound, StoreUnavailable


def family(kind: type[HeadraceError] = HeadraceError) -> Iterator[type[HeadraceError]]:
    # Other rooms' own kinds come and go with what else was imported; this is the one file of them.
    if kind.__module__ == errors.__name__:
        yield kind
    for child in kind.__subclasses__():
        yield from family(child)


FAMILY = sorted(set(family()), key=lambda kind: kind.__name__)

EXPECTED: dict[str, tuple[type[BaseException], int | None]] = {
    "AccessRefused": (PermissionError, errno.EACCES),
    "AlreadyExists": (FileExistsError, errno.EEXIST),
    "ClockSkewed": (PermissionError, errno.EACCES),
    "ConfigError": (ValueError, None),
    "CredentialsRefused": (PermissionError, errno.EACCES),
    "FolderNotEmpty": (OSError, errno.ENOTEMPTY),
    "HeadraceError": (Exception, None),
    "InvalidPath": (ValueError, None),
    "IsFolder": (IsADirectoryError, errno.EISDIR),
    "MountEmpty": (FileNotFoundError, errno.ENOENT),
    "NameTooLong": (OSError, errno.ENAMETOOLONG),
    "NotFolder": (NotADirectoryError, errno.ENOTDIR),
    "NotFound": (FileNotFoundError, errno.ENOENT),
    "PolicyDenied": (PermissionError, errno.EACCES),
    "ReadOnly": (OSError, errno.EROFS),
    "StoreAnswerWrong": (OSError, errno.EIO),
    "StoreFull": (OSError, errno.ENOSPC),
    "StoreMissing": (FileNotFoundError, errno.ENOENT),
    "StoreTimeout": (TimeoutError, errno.ETIMEDOUT),
    "StoreUnavailable": (ConnectionError, errno.EHOSTUNREACH),
    "TooManyOpen": (OSError, errno.EMFILE),
    "VersionGone": (OSError, errno.ESTALE),
    "WriteConflict": (OSError, errno.ESTALE),
}


def test_the_family_is_the_one_that_is_promised() -> None:
    assert [kind.__name__ for kind in FAMILY] == sorted(EXPECTED)


def test_every_member_stands_in_the_tree_of_the_docstring() -> None:
    assert errors.__doc__
    for kind in FAMILY:
        assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize("kind", FAMILY)
def test_each_is_also_python_s_own(kind: type[HeadraceError]) -> None:
    python_s, number = EXPECTED[kind.__name__]
    error = kind("it broke", path="/a", store="s3://b", hint="mend it")
    assert isinstance(error, python_s)
    assert getattr(error, "errno", None) == number
    if isinstance(error, OSError):
        assert (error.strerror, error.filename) == ("it broke", "/a")
    assert kind.__doc__


@pytest.mark.parametrize("kind", FAMILY)
def test_its_text_is_a_sentence_that_ends_with_the_hint(kind: type[HeadraceError]) -> None:
    assert str(kind("it broke", path="/a")) == "it broke"
    assert str(kind("it broke", hint="mend it")) == "it broke (mend it)"


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("path", [None, "/a\n\udc80"])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_each_crosses_process_borders_whole(
    kind: type[HeadraceError], path: str | None, protocol: int
) -> None:
    error = kind("it broke", path=path, store="s3://b", hint="mend it")
    for other in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(other) is kind
        assert (other.message, other.path, other.store, other.hint) == (
            "it broke",
            path,
            "s3://b",
            "mend it",
        )
        assert str(other) == str(error)
        assert getattr(other, "errno", None) == getattr(error, "errno", None)
        assert getattr(other, "filename", None) == getattr(error, "filename", None)
        assert other.retriable is error.retriable


@pytest.mark.parametrize("kind", FAMILY)
def test_only_an_unreachable_store_is_worth_trying_again(kind: type[HeadraceError]) -> None:
    assert kind("it broke").retriable is issubclass(kind, StoreUnavailable)


def test_a_higher_room_fills_in_only_what_is_unknown() -> None:
    error = NotFound("gone")
    assert error.at(path="/a", store="s3://b") is error
    assert (error.path, error.store, error.filename) == ("/a", "s3://b", "/a")
    error.at(path="/other", store="s3://other")
    assert (error.path, error.store, error.filename) == ("/a", "s3://b", "/a")
    assert error.errno == errno.ENOENT


def test_filling_in_works_where_there_is_no_file_name() -> None:
    error = ConfigError("wrong").at(path="/a")
    assert error.path == "/a" and str(error) == "wrong"
