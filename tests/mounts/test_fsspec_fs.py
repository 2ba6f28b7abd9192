from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback

import headrace
from headrace_cache.remote.node_service import NodeService
from headrace_mounts.connect import disconnect_all, open_node
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import ConfigError, NotFound, PolicyDenied
from headrace_namespace.path import NamespacePath
from tests.untyped import fsspec, pd

HARD_NAMES = [
    "plain.bin",
    "with space",
    "hash#mark",
    "what?",
    "at@sign",
    "100%",
    "a%20b",
    "new\nline",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f30a",
    "star*",
    "[x]",
    "tab\t",
    "x" * 255,
]


POLICY = """
version = 1
[[rule]]
name = "no"
match.path = ["/lake/sub/deep/**"]
apply.persistence = "deny"
[[rule]]
name = "hr"
match.path = ["/lake/hr/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
"""


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    folder = tmp_path / "silo"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(os.urandom(3_000_000))
    (folder / "sub" / "b.csv").write_text("n,m\n1,2\n3,4\n")
    (folder / "sub" / "deep" / "c.txt").write_text("one\ntwo\n")
    (folder / "empty").write_bytes(b"")
    for position, name in enumerate(HARD_NAMES):
        (folder / name).write_bytes(b"%d" % position + name.encode())
    return folder


@pytest.fixture
def config(tmp_path: Path, silo: Path) -> Iterator[dict[str, object]]:
    (tmp_path / "policy.toml").write_text(POLICY)
    yield {
        "mount": [{"path": "/lake", "url": str(silo)}],
        "cache": {
            "folder": str(tmp_path / "cache"),
            "memory": "64MiB",
            "ssd": "128MiB",
            "key_file": str(tmp_path / "keys" / "key"),
        },
        "policy": {"file": str(tmp_path / "policy.toml")},
    }
    disconnect_all()
    HeadraceFileSystem.clear_instance_cache()


@pytest.fixture(params=["embedded", "node"])
def fs(config: dict[str, object], request: pytest.FixtureRequest) -> Iterator[Any]:
    """Over a cache of this process, and over a node's."""
    if request.param == "embedded":
        yield fsspec.filesystem("headrace", config=config)
        return
    with closing(open_node(config)):
        fs = fsspec.filesystem("headrace", config=config)
        assert isinstance(fs.service, NodeService)
        yield fs
        disconnect_all()


def test_urls_and_options_reach_it(config: dict[str, object], silo: Path) -> None:
    with fsspec.open("headrace:///lake/a.bin", "rb", config=config) as file:
        assert file.read() == (silo / "a.bin").read_bytes()
    frame = pd.read_csv("headrace:///lake/sub/b.csv", storage_options={"config": config})
    assert frame.to_dict("list") == {"n": [1, 3], "m": [2, 4]}


@pytest.mark.parametrize("name", HARD_NAMES)
def test_hard_names_read_as_they_are(fs: Any, silo: Path, name: str) -> None:
    data = (silo / name).read_bytes()
    assert fs.cat_file(f"/lake/{name}") == data
    assert fs.cat_file(f"headrace:///lake/{name}") == data
    assert fs.cat_file(fs.unstrip_protocol(f"/lake/{name}")) == data
    assert f"/lake/{name}" in fs.ls("/lake", detail=False)
    with fs.open(f"/lake/{name}") as file:
        assert file.read() == data


def test_info_and_ls_carry_the_version(fs: Any, silo: Path) -> None:
    info = fs.info("headrace:///lake//sub/../a.bin")
    assert set(info) == {"name", "size", "type", "mtime", "version", "strong", "mount"}
    assert info["name"] == "/lake/a.bin" and info["size"] == 3_000_000
    assert info["type"] == "file" and info["mount"] == "/lake" and info["strong"] is False
    assert info["mtime"] == pytest.approx((silo / "a.bin").stat().st_mtime)
    assert fs.info("/lake/sub")["type"] == "directory"
    listed = {one["name"]: one for one in fs.ls("/lake")}
    assert listed["/lake/a.bin"]["version"] == info["version"]
    with fs.open("/lake/a.bin") as file:
        assert file.version == info["version"]
    assert fs.ls("/lake/a.bin", detail=False) == ["/lake/a.bin"]
    assert list(fs.iter_ls("/lake/sub"))


def test_walks(fs: Any) -> None:
    assert "/lake/sub/b.csv" in fs.glob("headrace:///lake/*/*.csv")
    assert fs.find("/lake", maxdepth=1) == sorted(
        name for name in fs.ls("/lake", detail=False) if name != "/lake/sub"
    )
    assert fs.find("/lake/nope") == []
    assert fs.du("/lake/sub/b.csv") == 12
    assert fs.exists("/lake/a.bin") and not fs.exists("/lake/nope")
    assert fs.isfile("/lake/a.bin") and fs.isdir("/lake") and fs.isdir("/")
    assert fs.modified("/lake/a.bin").year >= 2020


def test_a_walk_that_is_refused_a_folder_says_so_instead_of_leaving_it_out(fs: Any) -> None:
    with pytest.raises(PolicyDenied, match="/lake/sub/deep"):
        fs.find("/lake")


def test_errors_are_pythons_own_and_ours(fs: Any) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        fs.open("/lake/nope")
    assert isinstance(missing.value, NotFound) and missing.value.path == "/lake/nope"
    with pytest.raises(IsADirectoryError):
        fs.open("/lake/sub")
    with pytest.raises(PermissionError) as denied:
        fs.cat_file("/lake/sub/deep/c.txt")
    assert isinstance(denied.value, PolicyDenied)
    with pytest.raises(PermissionError):
        fs.pipe_file("/lake/sub/deep/c.txt", b"")


def test_ranges(fs: Any, silo: Path) -> None:
    data = (silo / "a.bin").read_bytes()
    assert fs.cat_file("/lake/a.bin", 10, 20) == data[10:20]
    assert fs.cat_file("/lake/a.bin", -7) == data[-7:]
    assert fs.cat_file("/lake/a.bin", 5, -5) == data[5:-5]
    assert fs.head("/lake/a.bin", 9) == data[:9] and fs.tail("/lake/a.bin", 9) == data[-9:]
    got = fs.cat_ranges(["/lake/a.bin", "/lake/nope", "/lake/a.bin"], [0, 0, 100], [5, 5, 110])
    assert got[0] == data[:5] and got[2] == data[100:110]
    assert isinstance(got[1], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["/lake/nope"], 0, 5, on_error="raise")
    assert fs.cat(["/lake/a.bin", "/lake/empty"]) == {"/lake/a.bin": data, "/lake/empty": b""}


def test_get_copies_to_disk_by_wish(fs: Any, silo: Path, tmp_path: Path) -> None:
    fs.get("/lake/a.bin", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == (silo / "a.bin").read_bytes()


def test_max_age_is_a_contract_of_one_open(fs: Any, silo: Path) -> None:
    path = silo / "sub" / "b.csv"
    with fs.open("/lake/sub/b.csv") as file:
        first, _ = file.version, file.read()
    path.write_text("changed")
    with fs.open("/lake/sub/b.csv", max_age="pinned") as file:
        assert file.version == first and file.read() == b"n,m\n1,2\n3,4\n"
    with fs.open("/lake/sub/b.csv") as file:
        assert file.version != first and file.read() == b"changed"


def test_coroutines(config: dict[str, object], silo: Path) -> None:
    async def read() -> tuple[bytes, list[Any], Any]:
        fs: Any = HeadraceFileSystem(config=config, asynchronous=True, skip_instance_cache=True)
        data = await fs._cat_file("/lake/a.bin", 0, 100)
        both = await asyncio.gather(*(fs._cat_file("/lake/a.bin") for _ in range(8)))
        assert len(set(both)) == 1
        return data, await fs._ls("/lake/sub", detail=False), await fs._info("/lake/a.bin")

    data, names, info = asyncio.run(read())
    assert data == (silo / "a.bin").read_bytes()[:100]
    assert names == ["/lake/sub/b.csv", "/lake/sub/deep"] and info["size"] == 3_000_000


def test_it_pickles_and_instances_share_one_cache(fs: Any, config: dict[str, object]) -> None:
    other = pickle.loads(pickle.dumps(fs))
    alone = HeadraceFileSystem(config=config, skip_instance_cache=True)
    assert other.service is fs.service is alone.service
    opened = pickle.loads(pickle.dumps(fsspec.open("headrace:///lake/a.bin", config=config)))
    with opened as file:
        assert len(file.read()) == 3_000_000


def test_an_unknown_option_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(headrace.ConfigError, match="confg.*it takes config"):
        fsspec.filesystem("headrace", confg=config)


def test_a_wrong_configuration_is_told_where_it_is_named() -> None:
    with pytest.raises(ConfigError, match="urll"):
        HeadraceFileSystem(config={"mount": [{"path": "/x", "urll": "/tmp"}]})


def test_threads(fs: Any, silo: Path) -> None:
    data = (silo / "a.bin").read_bytes()
    wrong: list[int] = []

    def read(number: int) -> None:
        with fs.open("/lake/a.bin") as file:
            if file.read() != data:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _read_in_worker(config: dict[str, object], path: str) -> bytes:
    fs: Any = fsspec.filesystem("headrace", config=config)
    data: bytes = fs.cat_file(path)
    fs.service.flush()
    return data


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers(fs: Any, config: dict[str, object], silo: Path, method: str) -> None:
    data = (silo / "a.bin").read_bytes()
    with fs.open("/lake/a.bin") as file:
        assert file.read() == data  # the parent is warm and has threads
    context: Any = multiprocessing.get_context(method)
    with context.Pool(3) as pool:
        jobs = [(config, "/lake/a.bin"), (config, "/lake/empty"), (config, "/lake/what?")] * 2
        answers = pool.starmap(_read_in_worker, jobs)
        pool.close()
        pool.join()
    assert answers == [data, b"", (silo / "what?").read_bytes()] * 2
    with fs.open("/lake/a.bin") as file:
        assert file.read() == data  # and the parent goes on


def test_a_forked_child_goes_on_with_an_open_file(fs: Any, silo: Path) -> None:
    data = (silo / "a.bin").read_bytes()
    file = fs.open("/lake/a.bin")
    assert file.read(10) == data[:10]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            file.seek(0)
            rest = file.read() == data and fs.cat_file("/lake/100%")[-4:] == b"100%"
            os.write(writer, b"same" if rest else b"other")
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 10) == b"same"
    os.close(reader)
    assert file.read() == data[10:]
    file.close()


@pytest.fixture
def pay(silo: Path) -> str:
    (silo / "hr").mkdir()
    (silo / "hr" / "pay.csv").write_text("name,pay\ncanary-58b1,1\n")
    return "/lake/hr/pay.csv"


@pytest.mark.parametrize("wrapper", ["simplecache", "filecache"])
def test_fsspecs_own_caches_get_no_restricted_byte(
    config: dict[str, object], pay: str, tmp_path: Path, wrapper: str
) -> None:
    store = tmp_path / "fsspec-cache"
    options = {"headrace": {"config": config}, wrapper: {"cache_storage": str(store)}}
    with pytest.raises(PolicyDenied, match="disk"):
        fsspec.open(f"{wrapper}::headrace://{pay}", "rb", **options).open().read()
    with pytest.raises(PolicyDenied):
        pd.read_csv(f"{wrapper}::headrace://{pay}", storage_options=options)
    for path in store.rglob("*"):
        assert b"canary" not in (path.read_bytes() if path.is_file() else b"")
    with fsspec.open(f"{wrapper}::headrace:///lake/sub/b.csv", "rb", **options) as file:
        assert file.read() == b"n,m\n1,2\n3,4\n"  # what is not restricted they may keep


def test_a_restricted_object_is_copied_to_disk_only_by_wish(
    fs: Any, pay: str, tmp_path: Path
) -> None:
    with fs.open(pay, "r") as file:
        assert file.read().startswith("name,pay")
    assert fs.cat_file(pay, 0, 4) == b"name" and fs.head(pay, 4) == b"name"
    with pytest.raises(PolicyDenied):
        fs.get(pay, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists() or (tmp_path / "copy").read_bytes() == b""
    fs.get_file(pay, str(tmp_path / "wished"), to_disk=True)
    assert (tmp_path / "wished").read_bytes().startswith(b"name,pay")


def test_a_copy_to_disk_stops_when_its_object_becomes_restricted(
    tmp_path: Path, silo: Path, config: dict[str, object]
) -> None:
    (silo / "big").write_bytes(os.urandom(24 << 20))
    file = tmp_path / "rules.toml"
    file.write_text(POLICY)
    fs: Any = fsspec.filesystem("headrace", config={**config, "policy": {"file": str(file)}})

    class Tighten(Callback):  # type: ignore[misc] # Any to the type checkers
        def relative_update(self, inc: int = 1) -> None:
            """After the first block: the rule is there, and this process has seen it."""
            fresh = tmp_path / "fresh.toml"
            fresh.write_text(POLICY.replace("/lake/hr/**", "/lake/big"))
            os.replace(fresh, file)
            service: Any = fs.service
            service.reader().gate._watch.look()

    with pytest.raises(PolicyDenied, match="may not be kept on a disk"):
        fs.get_file("/lake/big", str(tmp_path / "copy"), callback=Tighten())
    assert not (tmp_path / "copy").exists()


def test_a_link_through_a_restricted_name_is_restricted(fs: Any, pay: str, silo: Path) -> None:
    outside = silo.parent / "outside"
    outside.mkdir()
    (outside / "x.csv").write_text("x")
    (silo / "hr" / "out").symlink_to(outside)
    (silo / "out2").symlink_to("hr/out")
    for path in ("/lake/hr/out/x.csv", "/lake/out2/x.csv"):
        with fs.open(path) as file:
            assert file.restricted, path


def test_a_policy_that_gets_stricter_reaches_every_way_of_asking(
    fs: Any, config: dict[str, object], tmp_path: Path
) -> None:
    assert fs.cat_file("/lake/a.bin", 0, 1)
    stricter = POLICY + '[default]\npersistence = "deny"\n'
    (tmp_path / "policy.toml").write_text(stricter)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            fs.cat_file("/lake/a.bin", 0, 1)
        except PolicyDenied:
            break
    again: Any = fsspec.filesystem("headrace", config=config)
    with pytest.raises(PolicyDenied):
        again.cat_file("/lake/a.bin")
    with pytest.raises(PolicyDenied):
        headrace.connect(config).open(NamespacePath("/lake/a.bin"))
    with pytest.raises(PolicyDenied):
        headrace.open("/lake/a.bin", config=config)


def test_what_pinned_settled_holds_in_a_forked_child(fs: Any, silo: Path) -> None:
    path = silo / "sub" / "b.csv"
    with fs.open("/lake/sub/b.csv", max_age="pinned") as file:
        first, _ = file.version, file.read()
    path.write_text("changed")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, fs.open("/lake/sub/b.csv", max_age="pinned").version.encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 200).decode() == first
    os.close(reader)


def test_an_open_file_is_not_sent_to_another_process(fs: Any) -> None:
    with fs.open("/lake/a.bin") as file, pytest.raises(TypeError, match="send its path"):
        pickle.dumps(file)


@pytest.mark.parametrize("fs", ["embedded"], indirect=True)  # a node in this process has it too
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_forked_child_lets_go_of_its_parents_memory(fs: Any) -> None:
    file = fs.open("/lake/a.bin")  # an open file must not keep it
    # Whole, and flushed: what a thread is just moving, its frame holds in the child for ever.
    assert file.read()
    fs.service.flush()
    assert "headrace-extent" in Path("/proc/self/maps").read_text()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = "headrace-extent" in Path("/proc/self/maps").read_text()
            os.write(writer, b"held" if held else b"free")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"free"
    os.close(reader)
    file.close()
