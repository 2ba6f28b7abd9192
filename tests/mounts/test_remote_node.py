"""A node of another host by every way in: fsspec's URLs, pandas, the command line, [[remote]]."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import connect_node, disconnect_all, open_node
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_mounts.settings import load_remote, load_settings
from headrace_namespace.errors import ConfigError, InvalidPath, PolicyDenied
from headrace_namespace.path import NamespacePath
from tests.untyped import fsspec

TOKEN = "a-token-of-32-characters-or-more"
POLICY = """
version = 1
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.groups = ["hr"]
"""


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "silo/hr").mkdir(parents=True)
    (tmp_path / "silo/hr/pay").write_bytes(b"secret")
    (tmp_path / "policy.toml").write_text(POLICY)
    for name in ("clerk", "guest"):
        (tmp_path / f"{name}.token").write_text(f"{name}-{TOKEN}")
        (tmp_path / f"{name}.token").chmod(0o600)
    (tmp_path / "headrace.toml").write_text(
        '[[mount]]\npath = "/lake"\nurl = "silo"\n[cache]\nfolder = "cache"\nkey_file = "key"\n'
        'state_folder = "state"\nmemory = "64MiB"\nssd = "0"\n[policy]\nfile = "policy.toml"\n'
        '[node.http]\nlisten = "127.0.0.1:0"\ntls = false\n'
        '[[node.client]]\nname = "clerk"\ntoken_file = "clerk.token"\ngroups = ["hr"]\n'
        '[[node.client]]\nname = "guest"\ntoken_file = "guest.token"\n'
    )
    with closing(open_node(tmp_path / "headrace.toml")) as node:
        assert node.door is not None
        yield node.door.port
        disconnect_all()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {"tls": False, "token_file": str(tmp_path / "clerk.token")}


def test_a_url_with_a_node_opens_that(port: int, options: dict[str, Any]) -> None:
    url = f"headrace://127.0.0.1:{port}/lake/new"
    with fsspec.open(url, "wb", **options) as file:
        file.write(b"abc")
    with fsspec.open(url, **options) as file:
        assert file.read() == b"abc"
    for file in fsspec.open_files(f"headrace://127.0.0.1:{port}/lake/*w", **options):
        with file as opened:
            assert opened.read() == b"abc"
    tree, path = fsspec.core.url_to_fs(url, **options)
    assert path == "/lake/new"
    assert tree.unstrip_protocol(path) == url
    assert tree.cat_file(url) == b"abc"
    assert tree.info(url)["name"] == "/lake/new"
    assert pickle.loads(pickle.dumps(tree)).cat_file(path) == b"abc"
    with pytest.raises(InvalidPath, match="not of the node"):
        tree.cat_file("headrace://127.0.0.1:1/lake/new")
    with fsspec.open(f"simplecache::{url}", headrace=options) as file:
        assert file.read() == b"abc"


def test_pandas_reads_and_writes_by_it(port: int, options: dict[str, Any]) -> None:
    # pandas publishes no types.
    pd: Any = import_module("pandas")
    url = f"headrace://127.0.0.1:{port}/lake/frame.parquet"
    frame = pd.DataFrame({"number": range(100_000)})
    frame.to_parquet(url, storage_options=options)
    back = pd.read_parquet(url, storage_options=options)
    assert back.equals(frame)


def test_pandas_is_told_of_the_policys_refusal(port: int, tmp_path: Path) -> None:
    """After a refusal it asks anew with `anon`, where botocore is installed."""
    pd: Any = import_module("pandas")
    guest: dict[str, Any] = {"tls": False, "token_file": str(tmp_path / "guest.token")}
    url = f"headrace://127.0.0.1:{port}/lake/hr/pay"
    for read in (pd.read_csv, pd.read_json):
        with pytest.raises(PolicyDenied, match="is for groups hr"):
            read(url, storage_options=guest)
    with pytest.raises(PermissionError, match="is for groups hr"):
        pd.DataFrame({"a": [1]}).to_csv(url, storage_options=guest)
    others: list[dict[str, Any]] = [{"anon": False}, {"anonymous": True}]
    for other in others:
        with pytest.raises(ConfigError, match="which headrace does not know"):
            HeadraceFileSystem(node=f"127.0.0.1:{port}", **guest, **other)


def test_a_rule_admits_by_group(port: int, tmp_path: Path) -> None:
    def read(name: str) -> bytes:
        given = {"tls": False, "token_file": str(tmp_path / f"{name}.token")}
        service = connect_node(f"127.0.0.1:{port}", given, {})
        opened = service.open(NamespacePath("/lake/hr/pay"))
        try:
            return opened.read_at(0, 10)
        finally:
            opened.close()

    assert read("clerk") == b"secret"
    with pytest.raises(PolicyDenied):
        read("guest")
    assert read("clerk") == b"secret"


def command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    return subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_asks_a_node(port: int, tmp_path: Path) -> None:
    remote = (
        f'[[remote]]\naddress = "127.0.0.1:{port}"\ntls = false\ntoken_file = "../clerk.token"\n'
    )
    (tmp_path / "job").mkdir()
    (tmp_path / "job/headrace.toml").write_text(remote)
    config = str(tmp_path / "job/headrace.toml")
    node = f"127.0.0.1:{port}"
    done = command("--config", config, "cat", "--node", node, "/lake/hr/pay", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "secret")
    (tmp_path / "local").write_text("text")
    words = ("put", str(tmp_path / "local"), "/lake/put")
    done = command("--config", config, "--node", node, *words, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "silo/put").read_text() == "text"
    # Without a configuration it knows nothing of how.
    done = command("--node", node, "ls", "/lake", home=tmp_path)
    assert done.returncode == 1
    assert "not reached" in done.stderr or "TLS" in done.stderr
    done = command("--node", "nonsense", "ls", "/lake", home=tmp_path)
    assert done.returncode == 2
    assert "is no address of a node" in done.stderr


def test_what_is_said_of_a_node_without_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="none is named"):
        HeadraceFileSystem(token="x" * 20, skip_instance_cache=True)


MOUNT = '[[mount]]\npath = "/data"\nurl = "/srv/data"\n'
DOOR = '[node.http]\nlisten = "127.0.0.1:7070"\n'
OPEN = DOOR + "tls = false\nauthentication = false\n"
TLS = DOOR.replace("127.0.0.1", "0.0.0.0") + 'certificate = "c"\nkey = "k"\n'
CLIENT = '[[node.client]]\nname = "etl"\ntoken_env = "ETL"\n'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (DOOR.replace("7070", "70700"), "must be host:port"),
        (DOOR, "'certificate' is missing"),
        (DOOR + "tls = false\n", "nobody could come in"),
        (OPEN.replace("127.0.0.1", "0.0.0.0"), "only a loopback address"),
        (OPEN + CLIENT, "and yet there are"),
        (OPEN + 'key = "k"\n', "and yet a certificate"),
        (OPEN + "typo = 1\n", "not a known key"),
        (TLS, "nobody could come in"),
        (TLS + "authentication = false\n", "only a loopback address"),
        (TLS + CLIENT + CLIENT, "names another client too"),
        (TLS + CLIENT + 'certificate_name = "x"\n', "no client_ca"),
        (TLS + CLIENT + 'token_file = "x"\n', "names the token already"),
        (TLS + '[[node.client]]\nname = "x"\n', "shows nothing"),
        (TLS.replace("certificate", "certficate"), "did you mean 'certificate'"),
        (TLS + CLIENT + 'token = "secret"\n', "does not belong here.*chmod 600.*token_env"),
        (TLS + CLIENT + 'user = " ann"\n', "' ann' is no name"),
        (TLS + CLIENT + 'groups = ["*"]\n', r"'\*' is no name"),
        (TLS + CLIENT + 'group = ["x"]\n', "did you mean 'groups'"),
        (CLIENT, r"write a \[node.http\]"),
        ('[[remote]]\naddress = "x"\n', "must be host:port"),
        ('[[remote]]\naddress = "x:1"\ntoken = "secret"\n', "does not belong here"),
        ('[[remote]]\naddress = "x:1"\n[[remote]]\naddress = "x:1"\n', "another"),
    ],
)
def test_a_wrong_configuration_is_said(text: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text(MOUNT + text)
    with pytest.raises(ConfigError, match=word) as caught:
        load_settings(tmp_path / "headrace.toml", environ={"HOME": str(tmp_path)})
    assert "headrace.toml, line" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "k"
    key.write_text("key")
    key.chmod(0o644)
    file = tmp_path / "headrace.toml"
    file.write_text(MOUNT + TLS + CLIENT)
    environ = {"HOME": str(tmp_path), "ETL": TOKEN}
    http = load_settings(file, environ=environ).node.http
    assert http is not None
    shown = {"certificate": str(key), "key": str(key)}
    with pytest.raises(ConfigError, match=f"chmod 600 {key}"):
        http.access(environ)
    with pytest.raises(ConfigError, match=f"chmod 600 {key}"):
        load_remote("cache.example.org:7070", shown, {})
    key.chmod(0o640)
    assert http.access(environ).key == key
    assert load_remote("cache.example.org:7070", shown, {}).key == key


def test_a_token_variable_that_is_not_set_is_said(tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(MOUNT + TLS + CLIENT)
    http = load_settings(file, environ={"HOME": str(tmp_path)}).node.http
    assert http is not None
    with pytest.raises(ConfigError, match=r"line 10.*token_env: the variable ETL is not set"):
        http.access({})


@pytest.mark.parametrize(
    ("token", "mode", "word"),
    [
        ("short", 0o600, "fewer than 16"),
        (TOKEN, 0o644, "everybody on this host"),
        (TOKEN + "\nmore", 0o600, "no header can carry"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_wrong_token_file_is_said_by_the_node_alone(
    token: str | None, mode: int, word: str, tmp_path: Path
) -> None:
    file = tmp_path / "t"
    if token is not None:
        file.write_text(token)
        file.chmod(mode)
    client = CLIENT.replace('token_env = "ETL"', 'token_file = "t"')
    (tmp_path / "headrace.toml").write_text(MOUNT + DOOR + "tls = false\n" + client)
    http = load_settings(tmp_path / "headrace.toml", environ={"HOME": str(tmp_path)}).node.http
    assert http is not None
    with pytest.raises(ConfigError, match=word):
        http.access({})


def test_two_clients_have_two_tokens(tmp_path: Path) -> None:
    other = CLIENT.replace("etl", "bi")
    (tmp_path / "headrace.toml").write_text(MOUNT + DOOR + "tls = false\n" + CLIENT + other)
    http = load_settings(tmp_path / "headrace.toml", environ={"HOME": str(tmp_path)}).node.http
    assert http is not None
    with pytest.raises(ConfigError, match="bi has the same token as etl"):
        http.access({"ETL": TOKEN})


def test_how_a_node_is_reached(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(TOKEN)
    (tmp_path / "t").chmod(0o600)
    file = tmp_path / "headrace.toml"
    file.write_text('[[remote]]\naddress = "cache:7070"\nca = "ca.pem"\ntoken_file = "t"\n')
    environ = {"HOME": str(tmp_path), "OTHER": TOKEN[::-1]}
    found = load_remote("cache:7070", {}, file, environ=environ)
    assert (found.token, found.ca, str(found.endpoint)) == (
        TOKEN,
        tmp_path / "ca.pem",
        "https://cache:7070",
    )
    given = load_remote("cache:7070", {"token_env": "OTHER"}, file, environ=environ)
    assert (given.token, given.ca) == (TOKEN[::-1], tmp_path / "ca.pem")
    nowhere = load_remote("other:1", {}, environ=environ, system_file=tmp_path / "none")
    assert (nowhere.token, nowhere.ca) == (None, None)
    assert TOKEN not in repr(found)
    for wrong in ({"tls": False}, {"certificate": "c"}, {"typo": 1}, {"token": "short"}):
        with pytest.raises(ConfigError):
            load_remote("other:1", wrong, {}, environ=environ)


def _lists(tree: Any, path: str) -> list[Callable[[], object]]:
    """Everything that takes a path."""
    return [
        lambda: tree.glob(path + "*"),
        lambda: tree.find(path),
        lambda: list(tree.walk(path)),
        lambda: list(tree.walk(path, follow_links=False)),
        lambda: tree.du(path),
        lambda: tree.expand_path(path, recursive=True),
        lambda: tree.cat(path, recursive=True),
        lambda: tree.cat([path]),
        lambda: tree.cat_ranges([path], [0], [1], on_error="raise"),
        lambda: tree.ls(path),
        lambda: tree.exists(path),
        lambda: tree.rm(path),
        lambda: tree.rm(path, recursive=True),
        lambda: tree.rm([path]),
        lambda: tree.rm_file(path),
        lambda: tree.mv(path, "/lake/other"),
        lambda: tree.mv([path], ["/lake/other"]),
        lambda: tree.mv("/lake/hr/pay", path + "/x"),
        lambda: tree.mv(["/lake/hr/pay"], [path + "/x"]),
        lambda: tree.copy(path, "/lake/other", recursive=True),
        lambda: tree.copy(["/lake/hr/pay"], [path + "/x"]),
        lambda: tree.makedirs(path + "/x"),
        lambda: tree.pipe({path: b"x"}),
        lambda: tree.get_mapper(path),
        lambda: tree.get(path, "/nowhere", recursive=True),
        lambda: tree.put(__file__, path),
        lambda: tree.unstrip_protocol(path),
    ]


@pytest.mark.parametrize("number", range(27))
def test_the_url_of_another_node_is_refused(
    port: int, options: dict[str, Any], tmp_path: Path, number: int
) -> None:
    tree = fsspec.filesystem("headrace", node=f"127.0.0.1:{port}", **options)
    with pytest.raises(InvalidPath, match="not of the node"):
        _lists(tree, "headrace://other.host:7070/lake/hr")[number]()
    local = fsspec.filesystem("headrace", config=str(tmp_path / "headrace.toml"))
    with pytest.raises(InvalidPath, match="not of the node"):
        _lists(local, f"headrace://127.0.0.1:{port}/lake/hr")[number]()
    assert (tmp_path / "silo/hr/pay").exists()
    disconnect_all()
