"""The demo, run as a person runs it: what it claims holds, and nothing of it is left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

#: Far above the few seconds that it takes: for machines that do much else.
PATIENCE_SECONDS = 120
TICK_SECONDS = 0.02


class Demo:
    """One `headrace demo` in folders of its own, which are told by its environment."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.places = [folder / name for name in ("tmp", "home", "work")]
        for place in self.places:
            place.mkdir(parents=True)
        tmp, home, work = self.places
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "demo", *arguments],
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "TMPDIR": str(tmp),
                "HOME": str(home),
                # None of these may lead the demo elsewhere.
                "AWS_PROFILE": "nobody",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "http_proxy": "http://127.0.0.1:9",
                "HEADRACE_CONFIG": "/nowhere.toml",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> tuple[int, str, str]:
        """Exit code, output and errors, once it has ended."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out, err

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Return as soon as it happened; fails if the demo ends before."""
        while not happened():
            try:
                code = self.process.wait(TICK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"the demo ended with {code} before that")

    def server_is_up(self) -> bool:
        """Whether its S3 endpoint listens."""
        return any(self.folder.glob("tmp/headrace-demo-*/s3/port"))

    def files_left(self) -> list[Path]:
        """What it left in any folder that it was given."""
        return [file for place in self.places for file in place.rglob("*")]

    def processes_left(self) -> list[int]:
        """The processes that still carry its environment."""
        mark = f"HOME={self.places[1]}".encode()
        found: list[int] = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue  # It ended while we looked.
        return found


def test_every_claim_holds_and_nothing_is_left(tmp_path: Path) -> None:
    demo = Demo(tmp_path / "one", "--json")
    code, out, err = demo.ended()
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["ok"] is True
    assert len(found["checks"]) == 8
    assert all(check["holds"] for check in found["checks"])
    assert found["flights"] == 336_776
    bucket, folder = found["sources"]
    for source in (bucket, folder):
        assert source["cold"]["bytes_fetched"] == source["bytes"] > 1_000_000
        assert source["warm"]["bytes_fetched"] == source["restarted"]["bytes_fetched"] == 0
        assert all(source[way]["seconds"] > 0 for way in ("direct", "cold", "warm", "restarted"))
    open_file, restricted = found["kept"]
    assert (open_file["persistence"], restricted["persistence"]) == ("sealed-ssd", "memory-only")
    assert (open_file["ssd_objects"], restricted["ssd_objects"]) == (1, 0)
    assert open_file["memory_objects"] == restricted["memory_objects"] == 1
    assert found["search"]["files"] > 0
    assert set(found["status"]["tiers"]) == {"memory", "ssd"}
    assert demo.files_left() == []
    assert demo.processes_left() == []


def test_two_at_once_and_the_tables_for_people(tmp_path: Path) -> None:
    demos = [Demo(tmp_path / name) for name in ("one", "other")]
    for demo in demos:
        code, out, err = demo.ended()
        assert (code, err) == (0, "")
        assert "8 of 8 claims held" in out.splitlines()[-1]
        assert "memory-only" in out
        assert "\x1b" not in out
        assert demo.files_left() == []
        assert demo.processes_left() == []


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_demo_that_is_ended_early_cleans_up(
    number: signal.Signals, expected: int, tmp_path: Path
) -> None:
    demo = Demo(tmp_path)
    demo.wait_until(demo.server_is_up)
    demo.process.send_signal(number)
    code, out, err = demo.ended()
    assert code == expected
    assert out == ""
    assert "Traceback" not in err
    assert demo.files_left() == []
    assert demo.processes_left() == []


def test_a_demo_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.wait_until(demo.server_is_up)
    (server,) = (pid for pid in demo.processes_left() if pid != demo.process.pid)
    # A handle that tells when the server is gone, and can mean no other process.
    handle = os.pidfd_open(server)
    try:
        demo.process.kill()
        demo.ended()

        assert select.select([handle], [], [], PATIENCE_SECONDS)[0], "the server still runs"
    finally:
        os.close(handle)


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; import headrace.demo.requirements as r; r._NEEDED['no_such_module'] = 'nosuch'"
        "; from headrace.cli.main import main; sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert "not installed: nosuch" in done.stderr
    assert "pip install 'headrace[demo]'" in done.stderr
