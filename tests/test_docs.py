"""The blocks of the README and of docs/ are run, so that what a newcomer copies is true.

A block is run where the comment before it says so: `run: python local` runs it over a folder of
files, `run: python node` over such a folder of another host's node, `run: python s3` over a bucket
of a real S3 server, `run: toml …` reads it as what it is.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headrace_cache.opening import check_policy
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from tests.conftest import Bucket

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"<!-- run: (\w+) (\w+) -->\n```(\w+)\n(.*?)```", re.DOTALL)

#: What engines warn of in their own code, which no block can help; everything else is an error.
FOREIGN_WARNINGS = {
    # Both call pandas in a way that pandas 4 will not have.
    "dask": ["ignore:The inplace keyword:DeprecationWarning"],
    "ray": [
        "ignore:The inplace keyword:DeprecationWarning",
        # It sets its own deprecated options.
        "ignore::DeprecationWarning:ray.data.context",
    ],
    # Of its API over pandas, which no block uses.
    "pyspark": ["ignore:PySpark does not yet fully support pandas:FutureWarning"],
}

#: Nothing but loopback and a small JVM.
SPARK_OPTIONS = (
    "--master local[2] --driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC' "
    "--conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1 "
    "--conf spark.ui.enabled=false --conf spark.sql.codegen.wholeStage=false pyspark-shell"
)

AIRPORTS = "faa,name\nIAH,Houston\nMIA,Miami\n"


@dataclass(frozen=True, slots=True)
class Block:
    """One block: where it stands, its language, and over what it runs."""

    place: str
    language: str
    over: str
    text: str


def blocks(language: str, *over: str) -> list[Any]:
    """The marked blocks of a language, as parameters of a test."""
    found: list[Block] = []
    for file in FILES:
        text = file.read_text()
        for match in _BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            assert match[1] == match[3], f"{file.name}:{line} is marked as another language"
            found.append(Block(f"{file.name}:{line}", match[1], match[2], match[4]))
    return [
        pytest.param(block, id=block.place)
        for block in found
        if block.language == language and block.over in over
    ]


def flights() -> bytes:
    """A small Parquet file of flights."""
    # pyarrow publishes no types.
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    raw = io.BytesIO()
    parquet.write_table(arrow.table({"dest": ["IAH", "MIA", "MIA"], "delay": [11, 33, 5]}), raw)
    return raw.getvalue()


def fill(data: Path) -> None:
    """The folder that the blocks read."""
    (data / "flights").mkdir(parents=True)
    (data / "flights/2013-01.parquet").write_bytes(flights())
    (data / "airports.csv").write_text(AIRPORTS)


def run(block: Block, folder: Path, **environ: str) -> str:
    """What the block prints, run as a program in `folder`."""
    filters = ["error"]
    for engine, foreign in FOREIGN_WARNINGS.items():
        if re.search(rf"^(?:import|from) {engine}\b", block.text, re.MULTILINE):
            filters += foreign
    done = subprocess.run(
        [sys.executable, *(f"-W{one}" for one in filters), "-c", block.text],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_SUBMIT_ARGS": SPARK_OPTIONS,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "DASK_TEMPORARY_DIRECTORY": str(folder),
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", blocks("python", "local"))
def test_a_python_block_runs_over_a_folder(block: Block, tmp_path: Path) -> None:
    fill(tmp_path / "data")
    (tmp_path / "headrace.toml").write_text('[[mount]]\npath = "/data"\nurl = "data"\n')
    here = Block(block.place, block.language, block.over, block.text.replace("/srv/data", "data"))
    # Ray puts Unix sockets there, whose paths have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="hr-", ignore_cleanup_errors=True) as short:
        assert run(here, tmp_path, RAY_TMPDIR=short)


@pytest.mark.parametrize("block", blocks("python", "node"))
def test_a_python_block_runs_over_a_node(block: Block, tmp_path: Path) -> None:
    fill(tmp_path / "data")
    (tmp_path / "etl.token").write_text("a-token-of-32-characters-or-more")
    (tmp_path / "etl.token").chmod(0o600)
    (tmp_path / "node.toml").write_text(
        '[[mount]]\npath = "/data"\nurl = "data"\n[cache]\nfolder = "cache"\nkey_file = "key"\n'
        'state_folder = "state"\nssd = 0\n[node.http]\nlisten = "127.0.0.1:0"\ntls = false\n'
        '[[node.client]]\nname = "etl"\ntoken_file = "etl.token"\n'
    )
    with closing(open_node(tmp_path / "node.toml")) as node:
        assert node.door is not None
        text = block.text.replace("cache.example.org:7070", f"127.0.0.1:{node.door.port}")
        text = text.replace('"ca": "node.pem"', '"tls": False')
        assert run(Block(block.place, block.language, block.over, text), tmp_path)


@pytest.mark.parametrize("block", blocks("python", "s3"))
def test_a_python_block_runs_over_a_bucket(block: Block, tmp_path: Path, bucket: Bucket) -> None:
    bucket.put("warehouse/flights/2013-01.parquet", flights())
    (config,) = [
        param.values[0].text
        for param in blocks("toml", "s3")
        if param.values[0].place.split(":")[0] == block.place.split(":")[0]
    ]
    (tmp_path / "headrace.toml").write_text(config.replace("my-bucket", bucket.name))
    shown = Block(
        block.place, block.language, block.over, block.text + "print(flights['delay'].max())"
    )
    out = run(
        shown,
        tmp_path,
        AWS_ENDPOINT_URL=bucket.endpoint,
        AWS_ACCESS_KEY_ID=bucket.access_key,
        AWS_SECRET_ACCESS_KEY=bucket.secret_key,
        AWS_REGION="us-east-1",
    )
    assert out == "33\n"


@pytest.mark.parametrize("block", blocks("toml", "local", "s3"))
def test_a_configuration_block_is_right(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "headrace.toml"
    file.write_text(block.text)
    assert load_settings(file, environ={"HOME": str(tmp_path)}).mounts


@pytest.mark.parametrize("block", blocks("toml", "policy"))
def test_a_policy_block_is_right(block: Block) -> None:
    _, rules = check_policy(block.text, block.place)
    assert rules


def test_every_python_and_toml_block_is_marked() -> None:
    for file in FILES:
        text = file.read_text()
        assert len(re.findall(r"^```(?:python|toml)$", text, re.MULTILINE)) == len(
            _BLOCK.findall(text)
        ), f"a block of {file.name} is not run"


def test_every_link_leads_somewhere() -> None:
    for file in FILES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"
