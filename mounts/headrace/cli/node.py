"""`node`: one cache for every process of this host."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

import click

from headrace.cli.call import Call, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import WORKING
from headrace.cli.streams import complain


@click.command(
    cls=Described,
    examples=("headrace node", "headrace --config /etc/headrace/headrace.toml node"),
    codes=WORKING,
)
@click.option(
    "--check", is_flag=True, help="Only ask whether one runs and answers: 0 if so, else 1 or 2."
)
@pass_call
def node(call: Call, check: bool) -> None:
    """Run the node: one cache in memory for all jobs of this host.

    It serves the jobs of its configuration, and stays in the foreground until SIGTERM or Ctrl-C,
    answers what is under way, and ends. Jobs find it by its socket when they connect; without it
    each has a cache of its own. With a [node.http] it serves jobs of other hosts too, and takes
    renewed tokens and certificates of these on SIGHUP, where it has no terminal. Under systemd
    it says when it is ready (Type=notify), tells the watchdog that it lives, and takes the socket
    that systemd listens on. For other supervisors, --check asks a running node of this
    configuration for a sign of life.
    """
    if check:
        call.refuse_node("node --check asks the one of this host: for another, GET its /readyz")
    call.refuse_node("node runs one on this host: leave it out; [node.http] says where it listens")
    from headrace_cache.node.daemon import STATUS_SECONDS, ServiceManager, status_line
    from headrace_mounts.connect import check_node, open_node

    if check:
        complain(f"node: answers at {check_node(call.file())}")
        return
    form = call.set_up_logs()
    tell = _unsaid if form == "json" else complain  # there each line is the log's
    ended, renewing = threading.Event(), threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    def renew(number: int, frame: FrameType | None) -> None:
        renewing.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if not os.isatty(0):  # at a terminal it says that this is gone
        signal.signal(signal.SIGHUP, renew)
    manager = ServiceManager(os.environ)
    running = open_node(call.file())
    try:
        where = str(running.socket_file)
        if running.door is not None:
            where += f" and {running.door.url}"
        tell(f"node: serving at {where}; end it with Ctrl-C or SIGTERM")
        manager.tell(f"READY=1\nSTATUS={status_line(running.facts())}")
        status_from = time.monotonic() + STATUS_SECONDS
        # Not for ever: a signal may be taken by another thread, and is seen when this one wakes.
        while not ended.wait(min(1.0, manager.watchdog_seconds or 1.0)):
            manager.tell("WATCHDOG=1")
            if renewing.is_set():
                renewing.clear()  # first: what changes meanwhile is read once more
                running.renew()
            if manager.listens and time.monotonic() >= status_from:
                manager.tell(f"STATUS={status_line(running.facts())}")
                status_from = time.monotonic() + STATUS_SECONDS
        manager.tell("STOPPING=1")
        tell("node: ending")
    finally:
        running.close()


def _unsaid(sentence: str) -> None:
    """Nothing is said."""
