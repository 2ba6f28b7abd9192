"""The main job as its users see it: bytes equal to the source's, over both kinds of mount, cold,
warm and after a restart; and policy that holds on the disk, not only in the code."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace_mounts.connect import disconnect_all
from headrace_mounts.fsspec_fs import HeadraceFileSystem
from headrace_namespace.errors import ConfigError
from tests.conftest import Bucket
from tests.untyped import fsspec, np, pd

MIB = 1 << 20

NAMES = [
    "plain",
    "with space",
    "hash#mark",
    "what?",
    "at@sign",
    "100%",
    "a%20b",
    "new\nline",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f30a/inner",
    "deep/er/and/deeper",
    "star*",
    "[x]",
    "plus+plus",
    "semi;colon&amp=1",
]
SIZES = [0, 1, 4095, MIB - 1, MIB, MIB + 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 17, 20 * MIB]


@dataclass(frozen=True)
class World:
    """One tree over a folder and a bucket that hold the same objects."""

    config: dict[str, object]
    objects: dict[str, bytes]
    folder: Path
    bucket: Bucket

    def fs(self) -> Any:
        """The file system, as a process that starts now would see it."""
        return fsspec.filesystem("headrace", config=self.config)

    def restart(self) -> None:
        """Forget all that is in memory, as a new process does."""
        disconnect_all()
        HeadraceFileSystem.clear_instance_cache()

    def files_on_disk(self) -> dict[Path, bytes]:
        """Everything that headrace wrote."""
        roots = [self.folder.parent / "cache", self.folder.parent / "keys"]
        return {
            path: path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()
        }


@pytest.fixture
def make_world(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    monkeypatch.setenv("LAKE_KEY", bucket.access_key)
    monkeypatch.setenv("LAKE_SECRET", bucket.secret_key)

    def make(objects: dict[str, bytes], policy: str | None = None) -> World:
        folder = tmp_path / "silo"
        for name, data in objects.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            bucket.put(f"prefix/{name}", data)
        config: dict[str, object] = {
            "mount": [
                {"path": "/local", "url": str(folder)},
                {
                    "path": "/s3",
                    "url": f"s3://{bucket.name}/prefix",
                    "options": {
                        "endpoint_url": bucket.endpoint,
                        "key_env": "LAKE_KEY",
                        "secret_env": "LAKE_SECRET",
                    },
                },
            ],
            "cache": {
                "folder": str(tmp_path / "cache"),
                "memory": "64MiB",
                "ssd": "256MiB",
                "key_file": str(tmp_path / "keys" / "key"),
            },
        }
        if policy is not None:
            (tmp_path / "policy.toml").write_text(policy)
            config["policy"] = {"file": str(tmp_path / "policy.toml")}
        return World(config, objects, folder, bucket)

    yield make
    disconnect_all()
    HeadraceFileSystem.clear_instance_cache()


def test_bytes_are_the_sources_cold_warm_and_after_a_restart(
    make_world: Callable[..., World],
) -> None:
    objects = {name: os.urandom(random.randrange(1, 3 * MIB)) for name in NAMES}
    objects |= {f"size-{size}": os.urandom(size) for size in SIZES}
    world = make_world(objects)
    fetched: list[int] = []
    for state in ("cold", "warm", "restarted"):
        if state == "restarted":
            world.restart()
        fs = world.fs()
        for mount in ("/local", "/s3"):
            for name, data in objects.items():
                assert fs.cat_file(f"{mount}/{name}") == data, (state, mount, name)
                start = random.randrange(len(data) + 1)
                with fs.open(f"{mount}/{name}") as file:
                    file.seek(start)
                    assert file.read(70_000) == data[start : start + 70_000]
        fs.service.flush()
        fetched.append(fs.service.status().bytes_fetched)
    total = 2 * sum(map(len, objects.values()))
    assert fetched[0] >= total
    # The memory tier is smaller than all of it, the SSD tier is not: nothing is fetched again.
    assert fetched[1] == fetched[0]
    assert fetched[2] == 0


def test_listings_show_every_name_on_both_mounts(make_world: Callable[..., World]) -> None:
    world = make_world({name: name.encode() for name in NAMES})
    fs = world.fs()
    assert fs.ls("/", detail=False) == ["/local", "/s3"]
    for mount in ("/local", "/s3"):
        assert sorted(fs.find(mount)) == sorted(f"{mount}/{name}" for name in NAMES)
        for info in fs.ls(mount):
            if info["type"] == "file":
                assert info["size"] == len(info["name"].split("/", 2)[2].encode())


def test_names_that_no_path_can_spell_are_told_of(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world({"plain": b"x"})
    world.bucket.put("prefix/odd//double", b"x")
    world.bucket.put("prefix/odd/../up", b"x")
    fs = world.fs()
    assert fs.ls("/s3/odd") == []
    assert "2 names that no path can spell" in caplog.text and "double" not in caplog.text
    with pytest.raises(FileNotFoundError):
        fs.cat_file("/s3/odd//double")


def test_frames_are_the_sources(make_world: Callable[..., World], tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "n": np.arange(200_000),
            "x": np.random.default_rng(1).random(200_000),
            "s": [f"row {n}" for n in range(200_000)],
        }
    )
    frame.to_parquet(tmp_path / "f.parquet")
    frame.to_csv(tmp_path / "f.csv", index=False)
    data = {name: (tmp_path / name).read_bytes() for name in ("f.parquet", "f.csv")}
    world = make_world({f"set/{name}": data[name] for name in data})
    for state in ("cold", "warm", "restarted"):
        if state == "restarted":
            world.restart()
        options = {"config": world.config}
        for mount in ("/local", "/s3"):
            url = f"headrace://{mount}/set"
            parquet = pd.read_parquet(f"{url}/f.parquet", storage_options=options)
            pd.testing.assert_frame_equal(parquet, frame)
            csv = pd.read_csv(f"{url}/f.csv", storage_options=options)
            pd.testing.assert_frame_equal(csv, frame)


CANARY = b"canary-7f3a-" + os.urandom(12).hex().encode()
RESTRICTED = """
version = 1
[[rule]]
name = "hr"
match.path = ["/local/hr/**", "/s3/hr/**"]
apply.persistence = "memory-only"
apply.metadata = "memory-only"
apply.guarantee = "unattested"
"""


def test_a_canary_of_a_memory_only_path_is_in_no_file(make_world: Callable[..., World]) -> None:
    block = (CANARY + b"|") * 2000
    world = make_world(
        {"hr/salaries-q3-secret.csv": b"hr" + block, "open/prices-q3-public.csv": b"open" + block},
        RESTRICTED,
    )
    fs = world.fs()
    for mount in ("/local", "/s3"):
        assert fs.cat_file(f"{mount}/hr/salaries-q3-secret.csv") == b"hr" + block
        assert fs.ls(f"{mount}/hr")
    fs.service.flush()
    assert fs.service.status().tiers["memory"].used > 0
    assert fs.service.status().tiers["ssd"].objects == 0
    for mount in ("/local", "/s3"):
        assert fs.cat_file(f"{mount}/open/prices-q3-public.csv") == b"open" + block
    fs.service.flush()
    assert fs.service.status().tiers["ssd"].objects == 2
    world.restart()
    for path, content in world.files_on_disk().items():
        for secret in (CANARY, CANARY.hex().encode(), b"salaries", b"prices"):
            assert secret not in content, path
    # The unrestricted one is there, sealed: without its stores it is still read; the other is not.
    gone = [name for name in world.objects]
    for name in gone:
        world.bucket.put(f"prefix/{name}", world.objects[name])  # same bytes, same ETag
    fs = world.fs()
    assert fs.cat_file("/s3/open/prices-q3-public.csv") == b"open" + block
    assert fs.service.status().bytes_fetched == 0
    assert fs.cat_file("/s3/hr/salaries-q3-secret.csv") == b"hr" + block
    assert fs.service.status().bytes_fetched == len(b"hr" + block)


READ_EVERY_WAY = """
import json, logging, sys
logging.basicConfig(filename="everything.log", level=logging.DEBUG)
import duckdb, fsspec, pandas as pd, pyarrow.dataset as ds
config = json.loads(sys.argv[1])
fs = fsspec.filesystem("headrace", config=config)
duckdb.register_filesystem(fs)
for mount in ("/local", "/s3"):
    url = f"headrace://{mount}/hr/salaries-q3-secret.csv"
    frame = pd.read_csv(url, storage_options={"config": config})
    assert len(frame) == 20000 and sys.argv[2] in frame["who"][0]
    table = ds.dataset(f"{mount}/hr", filesystem=fs, format="csv").to_table()
    assert table.num_rows == 20000
    assert duckdb.sql(f"select count(*) from read_csv('{url}')").fetchall() == [(20000,)]
    with fs.open(url, "r") as file:
        assert file.readline()
fs.service.flush()
"""


def test_no_engine_leaves_a_restricted_byte_or_name_anywhere(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    rows = "".join(f"{n},{CANARY.decode()}-{n}\n" for n in range(20_000))
    world = make_world({"hr/salaries-q3-secret.csv": b"n,who\n" + rows.encode()}, RESTRICTED)
    home = tmp_path / "home"
    home.mkdir()
    places = {"HOME": home, "TMPDIR": home / "tmp", "XDG_CACHE_HOME": home / "xdg"}
    for place in places.values():
        place.mkdir(exist_ok=True)
    environ = {**os.environ, **{name: str(place) for name, place in places.items()}}
    program = [sys.executable, "-c", READ_EVERY_WAY, json.dumps(world.config), CANARY.decode()]
    done = subprocess.run(program, cwd=home, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    written = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert home / "everything.log" in written
    written |= world.files_on_disk()
    written |= {Path("stdout"): done.stdout, Path("stderr"): done.stderr}
    for path, content in written.items():
        assert CANARY not in content, path
        assert b"salaries-q3" not in content, path


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "version = 1\n[[rule",
        "version = 2\n",
        'version = 1\n[[rule]]\nname = "x"\nmatch.path = ["/local/hr/**"]\n'
        'apply.persistance = "memory-only"\n',
        'version = 1\n[[rule]]\nname = "x"\nmatch.path = ["/local/hr/**"]\n'
        'apply.persistence = "memory_only"\n',
        'version = 1\n[[rule]]\nname = "x"\nmatch.path = "/local/hr/**"\n'
        'apply.persistence = "memory-only"\n',
        'version = 1\n[default]\npersistence = "sealed"\n',
        "\0",
    ],
)
def test_a_broken_policy_file_serves_nothing(make_world: Callable[..., World], broken: str) -> None:
    world = make_world({"a": b"a"}, broken)
    with pytest.raises(ConfigError) as refused:
        world.fs()
    assert "policy.toml" in str(refused.value)
    (world.folder.parent / "policy.toml").unlink()
    with pytest.raises(ConfigError):
        world.fs()


def test_an_alias_by_mount_link_or_case_is_as_restricted(
    make_world: Callable[..., World], bucket: Bucket
) -> None:
    world = make_world({"hr/pay.csv": b"pay" * 1000, "x": b"x"}, RESTRICTED)
    (world.folder / "shortcut").symlink_to(world.folder / "hr")
    mounts: Any = world.config["mount"]
    mounts.append({"path": "/elsewhere", "url": str(world.folder / "hr")})
    mounts.append({**mounts[1], "path": "/again", "url": f"s3://{bucket.name}"})
    fs = world.fs()
    for path in (
        "/local/shortcut/pay.csv",
        "/elsewhere/pay.csv",
        "/again/prefix/hr/pay.csv",
        "/local/./hr//pay.csv",
    ):
        assert fs.cat_file(path) == b"pay" * 1000
        assert fs.service.explain(_path(path)).persistence == "memory-only", path
    assert fs.service.explain(_path("/local/HR/pay.csv")).persistence == "memory-only"
    fs.service.flush()
    assert fs.service.status().tiers["ssd"].objects == 0


def test_a_second_process_finds_the_first_ones_pages(make_world: Callable[..., World]) -> None:
    data = os.urandom(5 * MIB)
    world = make_world({"a": data})
    fs = world.fs()
    assert fs.cat_file("/s3/a") == data
    fs.service.flush()
    program = (
        "import fsspec, sys\n"
        f"fs = fsspec.filesystem('headrace', config={world.config!r})\n"
        "data = fs.cat_file('/s3/a')\n"
        "import hashlib\n"
        "print(hashlib.sha256(data).hexdigest(), fs.service.status().bytes_fetched)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    import hashlib

    assert done.stdout.split() == [hashlib.sha256(data).hexdigest(), "0"]
    assert done.stderr == ""


def _path(text: str) -> Any:
    from headrace_namespace.path import NamespacePath

    return NamespacePath.parse(text)
