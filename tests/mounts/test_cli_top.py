"""`headrace top`: what it reckons, what it draws, and that it leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.cli.top_drawing import bar_of, screen
from headrace.cli.top_view import document_of, view_of
from headrace_cache.node_facts import PolicyFacts
from headrace_mounts.settings import load_settings
from tests.cache.node.made_facts import MIB, STATUS, client, facts
from tests.mounts.command_line import Site, make_site
from tests.mounts.test_cli_schemas import validator_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the node is Linux's")

BEFORE = facts()
AFTER = facts(
    seconds_up=BEFORE.seconds_up + 2.0,
    answered=BEFORE.answered + 100,
    rows=[client(1, lent=MIB, answered=65), client(2, lent=8 * MIB, answered=22), client(3)],
    clients=3,
    status=replace(
        STATUS,
        hits=120,
        misses=20,
        bytes_served=STATUS.bytes_served + 8 * MIB,
        bytes_fetched=11 * MIB,
    ),
)


# What is reckoned.


def test_rates_are_of_two_looks_at_one_node() -> None:
    view = view_of(BEFORE, AFTER)
    assert view.rates is not None
    assert (view.rates.hits, view.rates.misses) == (15.0, 5.0)
    assert view.rates.hit_ratio == 0.75 and view.rates.answered == 50.0
    assert view.rates.bytes_served == 4 * MIB and view.rates.bytes_fetched == MIB / 2
    assert view.asked == {1: 30.0, 2: 10.0}  # the third has just come


def test_a_node_begun_anew_has_no_rates_yet() -> None:
    assert view_of(None, AFTER).rates is None
    assert view_of(replace(BEFORE, process=78), AFTER).rates is None
    assert view_of(replace(BEFORE, since=1.0), AFTER).rates is None
    assert view_of(AFTER, AFTER).rates is None  # no time has passed


def test_a_rate_is_never_negative() -> None:
    fewer = replace(AFTER, answered=0, status=replace(STATUS, hits=0, misses=0, bytes_served=0))
    rates = view_of(BEFORE, fewer).rates
    assert rates is not None and rates.hit_ratio is None
    assert (rates.hits, rates.answered, rates.bytes_served) == (0, 0, 0)


@pytest.mark.parametrize(("order", "numbers"), [("bytes", [2, 1, 3]), ("requests", [1, 2, 3])])
def test_clients_are_ordered(order: str, numbers: list[int]) -> None:
    assert [row.number for row in view_of(BEFORE, AFTER, order).clients] == numbers


def test_troubles_are_told() -> None:
    assert view_of(None, BEFORE).troubles == []
    ill = facts(
        policy=PolicyFacts(2, broken=True, unpurged=True),
        lent_bytes=60 * MIB,
        connections=95,
        requests_waiting=4,
    )
    troubles = view_of(None, ill).troubles
    assert len(troubles) == 5 and "policy file" in troubles[0]


def test_the_document_is_what_the_schema_says() -> None:
    validator = validator_of("top")
    for before in (None, BEFORE):
        validator.validate(json.loads(json.dumps(document_of(view_of(before, AFTER)))))


# What is drawn.


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 10), (20, 5), (1, 1)])
@pytest.mark.parametrize("count", [0, 3, 256])
def test_it_fits_any_terminal(size: tuple[int, int], count: int) -> None:
    width, height = size
    rows = [client(each, lent=2**40 * each, answered=10**6) for each in range(count)]
    flights = {f"/{'long' * 30}{each}": 99 for each in range(50)}
    view = view_of(BEFORE, replace(AFTER, rows=rows, clients=count, flights=flights))
    lines = screen(view, width, height, order="bytes").plain.split("\n")
    assert len(lines) <= height and max(map(len, lines)) <= width


def test_80_columns_show_all_of_it() -> None:
    rows = [client(each, lent=(100 - each) * MIB, answered=5) for each in range(100)]
    shown = screen(
        view_of(BEFORE, replace(AFTER, rows=rows, clients=3000)), 80, 24, order="bytes"
    ).plain
    lines = shown.split("\n")
    assert len(lines) == 24 and ">" not in shown
    assert "hit ratio 75.0%" in shown and "4.0 MiB/s served" in shown
    assert "50/s answered" in shown and "/lake 4" in shown
    assert lines[-2] == "and 2992 more" and "q ends" in lines[-1]
    assert re.search(r"^ +0 +4000 +\S+ +2 +3 +100\.0 MiB +1 +5 +", shown, re.MULTILINE)
    assert "all is well" in shown


def test_a_node_that_is_gone_is_said_above_the_last_look() -> None:
    shown = screen(view_of(BEFORE, AFTER), 80, 24, order="bytes", note="no node listens").plain
    assert "health   no node listens" in shown and "up 1 d 01:01:03" in shown


def test_a_bar_shows_what_is_lent() -> None:
    assert bar_of(32, 16, 64, 8) == "==##...."
    assert bar_of(0, 0, 64, 8) == "........"
    assert bar_of(1, 0, 64, 8) == "#......."
    assert bar_of(70, 70, 64, 8) == "========"


# The command.


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = make_site(tmp_path)
    site.write("a", b"x" * MIB)
    yield site


@pytest.fixture
def node(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    process = begin_node(site)
    yield process
    end(process)


def begin_node(site: Site) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        site.command("node"), stderr=subprocess.PIPE, cwd=site.root, env=site.env
    )
    assert process.stderr is not None
    assert b"serving" in process.stderr.readline()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)
    if process.stderr is not None:
        process.stderr.close()


class Terminal:
    """A terminal of 80 by 24 in which `top` runs, as the shell's own job."""

    def __init__(self, site: Site, *arguments: str, **environ: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self._theirs = theirs
        self.before = termios.tcgetattr(theirs)
        self.shown = ""
        self.process = subprocess.Popen(
            site.command("top", *arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=site.root,
            env={**site.env, "TERM": "xterm", **environ},
            preexec_fn=lambda: os.login_tty(os.dup(theirs)),
        )

    def read_until(self, text: str) -> str:
        """What was shown since, up to this text."""
        begun = len(self.shown)
        while text not in self.shown[begun:]:
            try:
                self.shown += os.read(self._ours, 65536).decode()
            except BaseException:  # it waited in vain
                self.process.kill()
                self.process.wait()
                raise
        return self.shown[begun:]

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def end(self) -> int:
        """Its exit code; the terminal must be as it was."""
        # What it says at the end fits the terminal's buffer.
        code = self.process.wait(30)
        os.set_blocking(self._ours, False)
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self._ours, 65536).decode()
        after = termios.tcgetattr(self._theirs)
        os.close(self._ours)
        os.close(self._theirs)
        assert after == self.before
        return code

    @property
    def is_restored(self) -> bool:
        """Whether the first screen and the cursor are back."""
        left, shown = self.shown.rfind("\x1b[?1049l"), self.shown.rfind("\x1b[?25h")
        return left > self.shown.rfind("\x1b[?1049h") and shown > self.shown.rfind("\x1b[?25l")


def test_q_ends_it(site: Site, node: subprocess.Popen[bytes]) -> None:
    site.run("cat", "/data/a")
    terminal = Terminal(site, "--interval", "0.1")
    shown = terminal.read_until("s orders")
    assert f"process {node.pid}" in shown and "all is well" in shown
    assert "of 16.0 MiB" in shown and "clients  1" in shown
    terminal.read_until("hits/s")  # the second look
    terminal.press("s")
    terminal.read_until("by requests")
    terminal.press("x")  # nothing
    terminal.press("q")
    assert terminal.end() == 0
    assert terminal.is_restored


@pytest.mark.parametrize(
    ("how", "code"), [("\x03", 0), (signal.SIGTERM, -15), (signal.SIGHUP, -1)], ids=str
)
def test_however_it_ends_the_terminal_is_restored(
    site: Site, node: subprocess.Popen[bytes], how: str | signal.Signals, code: int
) -> None:
    terminal = Terminal(site, "--interval", "3600")
    terminal.read_until("s orders")
    if isinstance(how, str):
        terminal.press(how)
    else:
        terminal.process.send_signal(how)
    assert terminal.end() == code
    assert terminal.is_restored


def test_it_looks_again_for_a_node_that_was_lost(site: Site) -> None:
    first = begin_node(site)
    terminal = Terminal(site, "--interval", "0.1", NO_COLOR="1")
    terminal.read_until("all is well")
    end(first)
    terminal.read_until("looking again")
    second = begin_node(site)
    try:
        terminal.read_until(f"process {second.pid}")
        terminal.read_until("all is well")
        terminal.press("q")
        assert terminal.end() == 0
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.shown), "a colour"
    finally:
        end(second)


def test_a_dumb_terminal_gets_one_picture_below_the_other(
    site: Site, node: subprocess.Popen[bytes]
) -> None:
    terminal = Terminal(site, "--count", "2", "--interval", "0.1", TERM="dumb")
    terminal.read_until("hits/s")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.shown


def test_lines_for_programs(site: Site, node: subprocess.Popen[bytes]) -> None:
    done = site.run("top", "--count", "3", "--interval", "0.1")
    assert done.returncode == 0 and not done.stderr
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) == 3
    validator = validator_of("top")
    for look in looks:
        validator.validate(look)
        assert look["process"] == node.pid and look["troubles"] == []
    assert looks[0]["rates"] is None and looks[2]["rates"]["answered"] > 0
    assert looks[2]["seconds_up"] > looks[1]["seconds_up"] > looks[0]["seconds_up"]


def test_lines_end_by_ctrl_c_too_and_go_on_after_a_loss(site: Site) -> None:
    first = begin_node(site)
    process = subprocess.Popen(
        site.command("top", "--json", "--interval", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=site.root,
        env=site.env,
    )
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["process"] == first.pid
    end(first)
    assert b"looking again" in process.stderr.readline()
    second = begin_node(site)
    while json.loads(process.stdout.readline())["process"] != second.pid:
        pass
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and b"looking again" not in said
    end(second)


def test_the_last_of_so_many_looks_says_whether_there_is_a_node(site: Site) -> None:
    node = begin_node(site)
    process = subprocess.Popen(
        site.command("top", "--count", "20", "--interval", "0.2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=site.root,
        env=site.env,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    end(node)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and said.count(b"\n") == 1


def test_without_a_node_it_says_what_to_do(site: Site) -> None:
    done = site.run("top")
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.decode().splitlines()
    assert (
        "no node listens" in line
        and "start one with: headrace node" in line
        and "`headrace status`" in line
    )
    assert not load_settings(site.root / "headrace.toml").cache.folder.exists()


def test_a_node_that_is_stopped_is_said_to_be_there(
    site: Site, node: subprocess.Popen[bytes]
) -> None:
    os.kill(node.pid, signal.SIGSTOP)
    try:
        done = site.run("top", "--count", "1")
    finally:
        os.kill(node.pid, signal.SIGCONT)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1 and "does not answer" in line
    assert f"look at process {node.pid}" in line and "start one" not in line


def test_a_node_of_another_configuration_is_not_shown(
    site: Site, node: subprocess.Popen[bytes]
) -> None:
    file = site.root / "headrace.toml"
    file.write_text(file.read_text().replace("16MiB", "17MiB"))
    done = site.run("top")
    assert done.returncode == 2 and b"another configuration" in done.stderr
