"""Completion as shells ask for it: names of the tree, quick, and silent about errors."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.scripted_http import Raw, ScriptedHttp
from tests.mounts.command_line import Site, make_site

#: Far above the second that a completion may take, far below what a store may.
PATIENCE_SECONDS = 25


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("apple.csv", "apricot/b.csv", "pear.csv"):
        site.write(name)
    return site


def completed(site: Site, *words: str) -> list[str]:
    """What is offered for the last word."""
    line = ["headrace", "--config", str(site.root / "headrace.toml"), *words]
    asking = Site(
        site.root,
        {
            "_HEADRACE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(line),
            "COMP_CWORD": str(len(line) - 1),
        },
    )
    done = subprocess.run(
        [site.command()[0], "-m", "headrace"],
        env=asking.env,
        capture_output=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return [text.partition(",")[2] for text in done.stdout.decode().split()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["ls", "/d"], ["/data/"]),
        (["cat", "/data/ap"], ["/data/apple.csv", "/data/apricot/"]),
        (["warm", "/data/pear.csv", "/data/apricot/"], ["/data/apricot/b.csv"]),
        (["rm", "/data/none/x"], []),
        (["ls", "/../.."], []),
        (["war"], ["warm"]),
        (["completion", "f"], ["fish"]),
    ],
)
def test_names_are_completed(site: Site, words: list[str], offered: list[str]) -> None:
    assert sorted(completed(site, *words)) == offered


def test_a_broken_configuration_completes_nothing(site: Site) -> None:
    (site.root / "headrace.toml").write_text("no configuration")
    assert completed(site, "ls", "/d") == []


def test_a_store_that_does_not_answer_holds_up_no_prompt(site: Site) -> None:
    with ScriptedHttp(*(Raw(b"", then="stall") for _ in range(20))) as store:
        options = f'[mount.options]\nendpoint_url = "{store.endpoint}"\nanon = true\n'
        config = site.root / "headrace.toml"
        text = config.read_text()
        config.write_text(text.replace('url = "data"', f'url = "s3://bucket"\n{options}', 1))
        # The store's own bounds are minutes: it ends because it does not wait for them.
        assert completed(site, "ls", "/data/") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_one_its_shell_understands(site: Site, shell: str) -> None:
    script = site.out("completion", shell)
    assert "_HEADRACE_COMPLETE" in script
    assert "%(" not in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script.encode(), check=True)


def test_bash_goes_on_after_a_folder(site: Site) -> None:
    assert "compopt -o nospace" in site.out("completion", "bash")
    assert "compadd -U -S ''" in site.out("completion", "zsh")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("headrace ls /data/day=0", "ls /data/day=01/"),
        ("headrace ls /data/at:1", "ls /data/at:12.csv"),
        ("headrace ls --config=h.toml /data/day=01/x=", "ls --config=h.toml /data/day=01/x=2.csv"),
        ("headrace ls '/data/my f", "ls /data/my folder/"),
        ("headrace cat '/data/day=01/it", "cat /data/day=01/it's $5"),
        ('headrace cat "/data/day=01/it', "cat /data/day=01/it's $5"),
        ("headrace cat /data/day=01/it", "cat /data/day=01/it's $5"),
        ("headrace ls /data/my\\ f", "ls /data/my folder/"),
        ("headrace put loc", "put local=file.csv"),
        ("headrace put x /data/app", "put x /data/apple.csv"),
        ("headrace get /data/app", "get /data/apple.csv"),
        ("headrace get /data/x loc", "get /data/x local=file.csv"),
        ("headrace ls --config loc", "ls --config local=file.csv"),
        ("headrace warm --from loc", "warm --from local=file.csv"),
        ("headrace policy check loc", "policy check local=file.csv"),
    ],
)
def test_a_real_bash_completes(site: Site, typed: str, words: str) -> None:
    for name in ("day=01/x=2.csv", "day=01/it's $5", "at:12.csv", "my folder/x"):
        site.write(name)
    (site.root / "local=file.csv").write_bytes(b"")
    (site.root / "h.toml").write_bytes((site.root / "headrace.toml").read_bytes())
    assert in_bash(site, typed) == words


def in_bash(site: Site, typed: str) -> str:
    """The words of the command that a terminal's bash makes of this, of TAB, and of Enter."""
    binaries = site.root / "bin"
    binaries.mkdir()
    command = binaries / "headrace"
    command.write_text(
        f'#!/bin/sh\n[ "$_HEADRACE_COMPLETE" ] && exec {sys.executable} -m headrace "$@"\n'
        'echo "<<$*>>"\n'
    )
    command.chmod(0o755)
    (site.root / "rc").write_text(site.out("completion", "bash") + "PS1='ready''> '\n")
    environ = {
        **site.env,
        "PATH": f"{binaries}:{site.env['PATH']}",
        "HEADRACE_CONFIG": str(site.root / "headrace.toml"),
        "TERM": "dumb",
        "COLUMNS": "500",
        "LC_ALL": "C.UTF-8",
    }
    reading, writing = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        stdin=writing,
        stdout=writing,
        stderr=writing,
        cwd=site.root,
        env=environ,
        start_new_session=True,
    )
    os.close(writing)
    try:
        read_until(reading, b"ready> ")
        # Of an open quote bash closes what it completed; where it does not, Enter would wait.
        os.write(reading, typed.encode() + b"\t\n")
        shown = read_until(reading, b">>")
    finally:
        shell.kill()
        shell.wait()
        os.close(reading)
    return shown.decode().rpartition("<<")[2].partition(">>")[0]


def read_until(terminal: int, end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        assert select.select([terminal], [], [], PATIENCE_SECONDS)[0], shown
        shown += os.read(terminal, 4096)
    return shown
