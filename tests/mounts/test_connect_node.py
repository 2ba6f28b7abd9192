"""`headrace.connect` and `headrace.open` reach a node of another host, by the options of fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace_mounts.connect import disconnect_all, open_node

TOKEN = "a-token-of-32-characters-or-more"
PATH = headrace.NamespacePath("/lake/a")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "etl.token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


@pytest.fixture
def node(tmp_path: Path, token: Path) -> Iterator[str]:
    (tmp_path / "silo").mkdir()
    (tmp_path / "silo/a").write_bytes(b"abc")
    config: dict[str, object] = {
        "mount": [{"path": "/lake", "url": str(tmp_path / "silo")}],
        "cache": {
            "folder": str(tmp_path / "cache"),
            "key_file": str(tmp_path / "key"),
            "state_folder": str(tmp_path / "state"),
            "memory": "16MiB",
            "ssd": 0,
        },
        "node": {
            "http": {"listen": "127.0.0.1:0", "tls": False},
            "client": [{"name": "etl", "token_file": str(token)}],
        },
    }
    with closing(open_node(config)) as running:
        assert running.door is not None
        yield f"127.0.0.1:{running.door.port}"
        disconnect_all()


def test_connect_gives_the_tree_of_a_node(node: str, token: Path) -> None:
    tree = headrace.connect({}, node=node, tls=False, token_file=token)
    assert tree.authority == node
    assert [entry.path.text for entry in tree.list(PATH.parent)] == ["/lake/a"]
    assert tree is headrace.connect({}, node=node, tls=False, token=TOKEN)  # the same in all
    options: headrace.RemoteOptions = {"tls": False, "token_file": str(token)}
    assert tree is headrace.connect({}, node=node, **options)


def test_a_remote_of_the_configuration_says_how(node: str, token: Path, tmp_path: Path) -> None:
    remote = f'[[remote]]\naddress = "{node}"\ntls = false\ntoken_file = "{token.name}"\n'
    (tmp_path / "job.toml").write_text(remote)
    tree = headrace.connect(tmp_path / "job.toml", node=node)
    assert tree.stat(PATH).size == 3
    with headrace.open("/lake/a", config=tmp_path / "job.toml", node=node) as file:
        assert file.read() == b"abc"


def test_open_takes_a_url_or_a_node(node: str, token: Path) -> None:
    options: headrace.RemoteOptions = {"tls": False, "token_file": token}
    with headrace.open(f"headrace://{node}/lake/b", "w", config={}, **options) as file:
        file.write("written")
    for path, named in ((f"headrace://{node}/lake/b", None), ("/lake/b", node)):
        with headrace.open(path, "r", config={}, node=named, **options) as file:
            assert file.read() == "written"
    with pytest.raises(headrace.InvalidPath, match=f"not of the node {node}"):
        headrace.open(f"headrace://{node}/lake/b", node="127.0.0.1:1", tls=False, config={})


def _untyped(function: Callable[..., object]) -> Any:
    """As who runs no type checker calls it."""
    return function


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tls": False}, "tls says how to reach a node, and none is named"),
        ({"token": TOKEN, "ca": "x"}, r"ca, token says .* \(give node, or write the URL"),
        ({"node": "http://cache:7070"}, "'http://cache:7070' is no address of a node"),
        ({"node": 7070}, "7070 is no address of a node"),
        ({"node": ""}, "'' is no address of a node"),
        ({"node": "cache:7070", "tls": False}, "not reached without TLS"),
        ({"node": "cache:7070", "tls": "no"}, "options.*tls"),
        ({"node": "cache:7070", "token": "short"}, "fewer than 16 characters"),
        ({"node": "cache:7070", "token_file": "none"}, "cannot be read"),
        ({"node": "cache:7070", "token": TOKEN, "token_env": "X"}, "names the token already"),
        ({"node": "cache:7070", "ca": "none.pem"}, "the ca .*none.pem cannot be used"),
        ({"node": "cache:7070", "certificate": "c"}, "certificate and key are given together"),
    ],
)
def test_wrong_use_is_said(options: dict[str, object], word: str) -> None:
    with pytest.raises(headrace.ConfigError, match=word) as caught:
        _untyped(headrace.connect)({}, **options)
    assert TOKEN not in str(caught.value)
    with pytest.raises(headrace.ConfigError, match=word):
        _untyped(headrace.open)("/lake/a", config={}, **options)


@pytest.mark.parametrize("function", [headrace.connect, headrace.open])
def test_a_misspelt_option_is_an_unexpected_argument(function: Callable[..., object]) -> None:
    for more in ({}, {"node": "cache:7070"}):
        with pytest.raises(TypeError, match="unexpected keyword argument 'tokn_file'"):
            _untyped(function)("/lake/a", tokn_file="x", **more)
