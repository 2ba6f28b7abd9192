"""How a sentence names its path, and the node that it is of."""

from __future__ import annotations

import pickle

import pytest

from headrace_namespace.errors import ConfigError, NotFound, PolicyDenied, VersionGone
from headrace_namespace.naming import at_node, naming

NODE = "cache.example.org:7070"
URL = f"headrace://{NODE}/lake/a"


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("/lake/a is a folder", "/lake/a is a folder"),
        ("no '/lake/a'.", "no '/lake/a'."),
        (f"{URL} is a folder", f"{URL} is a folder"),
        ("/srv/lake/a is gone", "/lake/a: /srv/lake/a is gone"),
        ("/lake/a.csv is gone", "/lake/a: /lake/a.csv is gone"),
        ("it broke", "/lake/a: it broke"),
    ],
)
def test_a_sentence_names_its_path_once(said: str, named: str) -> None:
    assert naming("/lake/a", said) == named
    assert naming("/lake/a", named) == named


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("/lake/a is a folder", f"{URL} is a folder"),
        ("/srv/lake/a was replaced", f"{URL}: /srv/lake/a was replaced"),
        ("nothing matches '/lake/a'", f"nothing matches '{URL}'"),
        ("not /lake/a, but /lake/a/b", f"not {URL}, but /lake/a/b"),
        ("it broke", f"{URL}: it broke"),
    ],
)
def test_an_error_of_a_node_names_it_as_a_url(said: str, named: str) -> None:
    error = VersionGone(said, path="/lake/a", hint="open it again")
    for _ in range(2):  # a room above says the same again
        assert at_node(error, NODE) is error
        assert str(error) == f"{named} (open it again)"
        assert (error.path, error.filename, error.strerror) == ("/lake/a", "/lake/a", named)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_path_is_no_pattern() -> None:
    error = at_node(PolicyDenied("/a+(b)\\1 is denied", path="/a+(b)\\1"), NODE)
    assert str(error) == f"headrace://{NODE}/a+(b)\\1 is denied"


def test_what_is_of_no_node_or_has_no_path_of_the_tree_stays_as_it_is() -> None:
    assert str(at_node(NotFound("/a is gone", path="/a"), None)) == "/a is gone"
    assert str(at_node(ConfigError("no key"), NODE)) == "no key"
    url = "headrace://other:1/a"
    assert str(at_node(NotFound(f"{url} is gone", path=url), NODE)) == f"{url} is gone"
