"""Ctrl-C in the middle of long commands: exit 130, one line, nothing half done, and a second run
goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from headrace.cli.commands import Sectioned
from tests.mounts.command_line import Site, make_site

#: Far above what it takes, for machines that do much else.
PATIENCE_SECONDS = 60
TICK_SECONDS = 0.002
#: A pipe holds 64 KiB: who could write more has been read from.
PIPE_BYTES = 64 << 10
MANY = 3000
CONTENT = b"whole" * 1000


class Swallowing:
    """Python loses what its finalizer raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("after", ["nothing", "an error", "the end"])
def test_an_interrupt_that_python_loses_still_ends_a_command(
    capsys: pytest.CaptureFixture[str], after: str
) -> None:
    @click.group(cls=Sectioned)
    def program() -> None:
        """A program."""

    @program.command()
    def work() -> None:
        if after != "nothing":
            Swallowing()
        if after == "an error":
            raise ImportError("half a module")
        if after == "nothing":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(click.Abort):
        program.main(["work"], standalone_mode=False)
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for number in range(MANY):
        site.write(f"many/{number:05}", CONTENT)
    return site


def start(site: Site, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        site.command(*arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=site.root,
        env=site.env,
    )


def wait_until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    while not happened():
        try:
            code = process.wait(TICK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended with {code} before that")


def interrupted(process: subprocess.Popen[bytes]) -> None:
    """It ends as an interrupted command does."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (130, b"", b"headrace: interrupted\n")


def test_warm_keeps_what_it_brought_and_goes_on(site: Site) -> None:
    process = start(site, "warm", "--from", "-", "--json")
    assert process.stdin is not None
    lines = b"".join(b"/data/many/%05d\n" % number for number in range(MANY))
    more = b"/data/many/00000\n" * (4 * PIPE_BYTES // 17)
    process.stdin.write(lines + more)
    process.stdin.flush()
    interrupted(process)
    (tier,) = (t for name, t in site.json("status")["tiers"].items() if name == "ssd")
    assert tier["objects"] >= MANY // 2
    rest = site.json("warm", "/data/many")
    assert rest["objects"] == MANY
    assert rest["bytes_fetched"] == (MANY - tier["objects"]) * len(CONTENT)


def test_cp_leaves_whole_files_alone(site: Site) -> None:
    target = site.root / "data/copy"
    process = start(site, "cp", "-r", "/data/many", "/data/copy")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    interrupted(process)
    copied = list(target.iterdir())
    assert 0 < len(copied) < MANY
    assert all(file.read_bytes() == CONTENT for file in copied)
    assert site.json("cp", "-r", "/data/many/", "/data/again")["objects"] == MANY


def test_rm_can_be_made_again(site: Site) -> None:
    folder = site.root / "data/many"
    process = start(site, "rm", "-r", "/data/many")
    wait_until(process, lambda: len(os.listdir(folder)) < MANY)
    interrupted(process)
    assert site.run("rm", "-rf", "/data/many").returncode == 0
    assert not folder.exists()


def test_get_leaves_no_half_file(site: Site) -> None:
    target = site.root / "out"
    process = start(site, "get", "-r", "/data/many", "out")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    interrupted(process)
    for file in target.iterdir():
        assert file.read_bytes() == CONTENT


def test_put_leaves_nothing_of_what_was_not_all_there(site: Site) -> None:
    process = start(site, "put", "-", "/data/piped")
    assert process.stdin is not None
    process.stdin.write(bytes(40 << 20))
    process.stdin.flush()
    interrupted(process)
    assert sorted(os.listdir(site.root / "data")) == ["many"]
