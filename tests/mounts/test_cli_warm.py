"""`warm`: what it brings, what it leaves, and that the next process finds it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Bucket
from tests.mounts.command_line import Site, make_site
from tests.untyped import np, pa, pq

BIG = 3 << 20


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("a.bin", "2026/b.bin", "2026/01/c.bin"):
        site.write(name, os.urandom(BIG))
    site.write("2026/01/d.csv", b"1,2\n")
    return site


def test_the_next_process_finds_it_and_fetches_nothing(site: Site) -> None:
    first = site.json("warm", "/data")
    assert (first["objects"], first["bytes"]) == (4, 3 * BIG + 4)
    assert first["bytes_fetched"] == first["bytes"]
    assert first["failed"] == first["skipped"] == []
    again = site.json("warm", "/data")
    assert (again["objects"], again["bytes"], again["bytes_fetched"]) == (4, 3 * BIG + 4, 0)
    assert site.json("status")["tiers"]["ssd"]["objects"] == 4


def test_a_run_after_a_part_brings_the_rest(site: Site) -> None:
    site.out("cat", "--length", "1MiB", "--offset", "1MiB", "/data/2026/01/d.csv")
    assert site.run("cat", "--length", "1MiB", "/data/a.bin").stdout
    held = sum(e["length"] for e in site.json("why", "/data/a.bin")["extents"])
    assert held >= 1 << 20
    assert site.json("warm", "/data/a.bin")["bytes_fetched"] == BIG - held
    (whole,) = site.json("why", "/data/a.bin")["extents"]
    assert (whole["offset"], whole["length"], whole["tier"]) == (0, BIG, "ssd")


@pytest.mark.parametrize(
    ("pattern", "objects"),
    [
        ("/data/2026", 3),
        ("/data/*.bin", 1),
        ("/data/**/*.bin", 3),
        ("/data/**", 4),
        ("/data/20??/0*", 2),
        ("/**/d.csv", 1),
    ],
)
def test_patterns_and_folders(site: Site, pattern: str, objects: int) -> None:
    assert site.json("warm", pattern)["objects"] == objects


def test_a_name_with_a_star_is_itself(site: Site) -> None:
    site.write("s/x*y", b"1")
    site.write("s/xzy", b"2")
    assert site.json("warm", "/data/s/x*y")["objects"] == 1


def test_lists_come_from_a_file_or_standard_input(site: Site, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("/data/a.bin\n\nheadrace:///data/2026/b.bin\n")
    assert site.json("warm", "--from", "list")["objects"] == 2
    done = site.run("warm", "--from", "-", "--json", given=b"/data/2026/01/*.csv\n")
    assert json.loads(done.stdout)["objects"] == 1
    assert site.run("warm", "--from", "none").returncode == 2
    assert site.run("warm").returncode == 2


def test_only_the_chosen_columns_of_parquet_are_brought(site: Site) -> None:
    rows = 1 << 19
    rng = np.random.default_rng(1)
    table = pa.table({name: rng.random(rows) for name in ("a", "b", "c")})
    raw = io.BytesIO()
    pq.write_table(table, raw, compression="none", use_dictionary=False)
    size = len(raw.getvalue())
    site.write("t.parquet", raw.getvalue())
    said = site.json("warm", "/data/t.parquet", "--columns", "b")
    assert size / 3 <= said["bytes_fetched"] < size / 3 + (3 << 20)
    held = site.json("why", "/data/t.parquet")["extents"]
    assert sum(extent["length"] for extent in held) == said["bytes_fetched"]
    assert site.json("warm", "/data/t.parquet", "--columns", "b,a")["bytes_fetched"] < size / 2
    wrong = site.run("warm", "/data/t.parquet", "--columns", "z")
    assert wrong.returncode == 1
    assert b"no column 'z' (it has a, b, c)" in wrong.stderr
    assert site.run("warm", "/data/a.bin", "--columns", "b").returncode == 1


def test_without_pyarrow_it_says_what_to_install(site: Site) -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None;"
        "from headrace.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *site.command("warm", "/data", "--columns", "a")[3:]],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.search(rb"needs pyarrow.*pip install", done.stderr)


def test_progress_is_drawn_only_on_a_terminal_and_never_into_the_output(site: Site) -> None:
    reading, writing = pty.openpty()
    process = subprocess.Popen(
        site.command("warm", "/data", "--json"),
        stdout=subprocess.PIPE,
        stderr=writing,
        env=site.env,
    )
    os.close(writing)
    drawn = b""
    try:
        while piece := os.read(reading, 4096):
            drawn += piece
    except OSError:
        pass  # the terminal ends with its last writer
    finally:
        os.close(reading)
    out, _ = process.communicate()
    assert json.loads(out)["objects"] == 4
    assert b"warming" in drawn and b"objects" in drawn


def test_a_bucket_is_fetched_once(tmp_path: Path, bucket: Bucket) -> None:
    site = make_site(tmp_path)
    variables = {
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
        "AWS_REGION": "us-east-1",
    }
    config = site.root / "headrace.toml"
    options = f'[mount.options]\nendpoint_url = "{bucket.endpoint}"\n'
    text = config.read_text().replace('url = "data"', f'url = "s3://{bucket.name}"\n{options}', 1)
    config.write_text(text)
    for number in range(20):
        bucket.put(f"lake/{number}.bin", os.urandom(100_000))
    cloud = Site(site.root, variables)
    assert cloud.json("warm", "/data/lake")["bytes_fetched"] == 2_000_000
    before = cloud.json("status")["requests"]["/data"]
    assert cloud.json("warm", "/data/lake/*.bin")["bytes_fetched"] == 0
    after = cloud.json("status")["requests"]["/data"]
    assert after["read"] == before["read"]
    assert after.get("stat", 0) - before.get("stat", 0) <= 2  # the listing stands for its children


def test_what_is_memory_only_is_skipped_and_says_why(site: Site) -> None:
    site.write("hr/pay.csv", b"1")
    said = site.json("warm", "/gov/hr", "/data/a.bin")
    assert (said["objects"], said["failed"]) == (1, [])
    (skipped,) = said["skipped"]
    assert skipped["objects"] == 1
    assert "memory ends with this process" in skipped["reason"]


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        (["/data/none"], 4),
        (["/data/none*"], 4),
        (["/gov/denied/x"], 3),
        (["/gov/denied/x", "/gov/denied"], 3),
        (["/gov/denied/x", "/data/none"], 1),
        (["/data/a.bin", "/data/none"], 4),
    ],
)
def test_failures_are_named_and_have_a_code(site: Site, paths: list[str], code: int) -> None:
    site.write("denied/x")
    done = site.run("warm", *paths, "--json")
    assert done.returncode == code
    said = json.loads(done.stdout)
    for failure in said["failed"]:
        assert failure["path"].encode() in done.stderr
    assert said["objects"] == paths.count("/data/a.bin")
