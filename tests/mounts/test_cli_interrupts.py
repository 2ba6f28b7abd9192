"""Ctrl-C in the middle of long commands: exit 130, one line, nothing half done, and a second run
goes on."""

from __future__ import annotations

import functools
import gc
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from headrace.cli import program
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


class HalfMade:
    """Its destructor fails, as that of an event loop does that was cut off while it was made."""

    def __init__(self, cut: Callable[[], BaseException]) -> None:
        self.cycle = self
        raise cut()

    def __del__(self) -> None:
        raise AttributeError("the rest of me")


@pytest.mark.parametrize(
    ("cut", "code"),
    [(KeyboardInterrupt, 130), (functools.partial(SystemExit, 143), 143), (ValueError, 1)],
)
def test_nobody_hears_of_what_was_half_made_when_a_command_was_cut_off(
    cut: Callable[[], BaseException], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", heard.append)

    def main(*given: object, **more: object) -> None:
        HalfMade(cut)

    monkeypatch.setattr(program.cli, "main", main)
    try:
        assert program.run(["ls"]) == code
    except SystemExit as error:
        assert error.code == code
    gc.collect()
    assert len(heard) == (code == 1)


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


def interrupted(process: subprocess.Popen[bytes]) -> str:
    """It ends as an interrupted command does; the command that it tells to go on with."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out) == (130, b""), err
    said, _, told = err.decode().partition("; go on with: ")
    assert said.rstrip("\n") == "headrace: interrupted"
    assert err.endswith(b"\n")
    return told.rstrip("\n")


def go_on(site: Site, told: str, *expected: str) -> None:
    """Do what was told, word by word, and see that this ends it."""
    name, *words = shlex.split(told)
    assert name == "headrace"
    assert words == ["--config", str(site.root / "headrace.toml"), *expected]
    assert site.out(*words[2:]) != ""


def whole(folder: Path) -> None:
    """All is there, in its place, and nothing else."""
    assert sorted(os.listdir(folder)) == [f"{number:05}" for number in range(MANY)]
    assert all(file.read_bytes() == CONTENT for file in folder.iterdir())


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


def test_cp_is_gone_on_with_by_the_command_that_it_tells(site: Site) -> None:
    target = site.root / "data/copy"
    process = start(site, "cp", "-r", "/data/many", "/data/copy")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    told = interrupted(process)
    copied = list(target.iterdir())
    assert 0 < len(copied) < MANY
    assert all(file.read_bytes() == CONTENT for file in copied)
    go_on(site, told, "cp", "-r", "-n", "-T", "/data/many", "/data/copy")
    whole(target)


def test_mv_moves_the_rest_by_the_command_that_it_tells(site: Site) -> None:
    # One folder cannot take the place of another in one step, so each file is moved by itself.
    target = site.root / "gov/moved"
    target.mkdir()
    (target / "00000").write_bytes(b"old")
    process = start(site, "mv", "-T", "/data/many", "/gov/moved")
    wait_until(process, lambda: len(os.listdir(target)) > 1)
    go_on(site, interrupted(process), "mv", "-T", "/data/many", "/gov/moved")
    whole(target)
    assert not (site.root / "data/many").exists()


def test_a_copy_into_a_folder_goes_on_there(site: Site) -> None:
    (site.root / "gov/into").mkdir()
    target = site.root / "gov/into/many"
    process = start(site, "cp", "-r", "/data/many", "/gov/into")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    go_on(site, interrupted(process), "cp", "-r", "/data/many", "/gov/into/")
    whole(target)


def test_rm_can_be_made_again(site: Site) -> None:
    folder = site.root / "data/many"
    process = start(site, "rm", "-r", "/data/many")
    wait_until(process, lambda: len(os.listdir(folder)) < MANY)
    interrupted(process)
    assert site.run("rm", "-rf", "/data/many").returncode == 0
    assert not folder.exists()


def test_get_is_gone_on_with_by_the_command_that_it_tells(site: Site) -> None:
    target = site.root / "out"
    process = start(site, "get", "-r", "/data/many", "out")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    told = interrupted(process)
    for file in target.iterdir():
        assert file.read_bytes() == CONTENT
    go_on(site, told, "get", "-r", "-n", "-T", "/data/many", "out")
    whole(target)


def test_put_is_gone_on_with_by_the_command_that_it_tells(site: Site) -> None:
    (site.root / "data/many").rename(site.root / "-own")
    target = site.root / "data/new"
    process = start(site, "put", "-r", "--", "-own", "/data/new")
    wait_until(process, lambda: target.is_dir() and any(target.iterdir()))
    go_on(site, interrupted(process), "put", "-r", "-n", "-T", "--", "-own", "/data/new")
    whole(target)


def test_put_leaves_nothing_of_what_was_not_all_there(site: Site) -> None:
    process = start(site, "put", "-", "/data/piped")
    assert process.stdin is not None
    process.stdin.write(bytes(40 << 20))
    process.stdin.flush()
    assert interrupted(process) == ""
    assert sorted(os.listdir(site.root / "data")) == ["many"]
