"""`top`: what the node does, as it does it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import DONE, FAILED, PIPE_CLOSED, WRONG_USE
from headrace.cli.keys import Keys, keys
from headrace.cli.printing import print_json
from headrace.cli.streams import complain
from headrace.cli.top_view import ORDERS, View, document_of, view_of
from headrace_namespace.errors import StoreUnavailable

if TYPE_CHECKING:
    from rich.text import Text

    from headrace_cache.node_facts import NodeFacts
    from headrace_cache.remote.node_watch import NodeWatch

#: Seconds between two looks: a shorter time would show the looking itself, and a longer one seems
#: to hang.
LEAST_INTERVAL, MOST_INTERVAL = 0.1, 3600.0

#: A picture for a terminal of so many columns and lines, and what puts one there.
Drawn: TypeAlias = "Callable[[int, int], Text]"
Show: TypeAlias = Callable[[Drawn], None]


@click.command(
    cls=Described,
    examples=("headrace top", "headrace top --interval 5 --sort requests", "headrace top --json"),
    codes=(DONE, FAILED, WRONG_USE, PIPE_CLOSED),
)
@click.option(
    "--interval",
    type=click.FloatRange(LEAST_INTERVAL, MOST_INTERVAL),
    default=1.0,
    metavar="SECONDS",
    help="How long from look to look (1).",
)
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many looks.")
@click.option("--sort", type=click.Choice(ORDERS), default=ORDERS[0], help="Of the clients.")
@json_option
@pass_call
def top(call: Call, interval: float, count: int | None, sort: str, as_json: bool) -> int:
    """Watch the node: hits, tiers, clients and fetches, live.

    q or Ctrl-C ends it, with exit code 0, and the terminal is as it was. Without a terminal, and
    with --json, each look is one JSON object a line. A client's row shows what it has open, the
    memory lent to it (`owed`: extents that it was asked to give back) and its requests. Users other
    than the node's own and root see the rows of their own processes alone.
    """
    from headrace_mounts.connect import watch_node

    call.refuse_node("top shows the one of this host: run it there, or read that node's /metrics")
    call.set_up_logs()
    watch = watch_node(call.file())
    try:
        first = watch.look()  # without a node there is nothing to show
        live = sys.stdout.isatty() and not as_json
        with keys(wanted=live) as pressed:
            looking = _Looking(watch, first, sort, interval, count, pressed)
            if live:
                looking.draw()
            else:
                looking.print_lines()
            ended = pressed.ended
    finally:
        watch.close()
    if ended is not None and ended != signal.SIGINT:
        os.kill(os.getpid(), ended)  # as without us: it ends by it
    return FAILED if looking.lost else DONE


class _Looking:
    """Look after look, until it is enough."""

    def __init__(
        self,
        watch: NodeWatch,
        first: NodeFacts,
        order: str,
        interval: float,
        count: int | None,
        pressed: Keys,
    ) -> None:
        self._watch = watch
        self._first: NodeFacts | None = first
        #: The last two looks that showed something.
        self._looks: tuple[NodeFacts | None, NodeFacts] = (None, first)
        self._looked = False
        self._order = order
        self._interval = interval
        self._left = count
        self._keys = pressed
        #: Why the last look showed nothing; empty where it did.
        self.lost = ""

    def print_lines(self) -> None:
        """A JSON object for each look; a node that is lost is told of once, on standard error."""
        while True:
            said = self.lost
            view = self._look()
            if view is not None:
                print_json(document_of(view))
                sys.stdout.flush()
            elif not said:
                complain(f"{self.lost}; looking again")
            if self._is_enough():
                return
            self._keys.wait(self._interval)
            if self._keys.ended is not None:
                return

    def draw(self) -> None:
        """The live view."""
        with _canvas() as show:
            while True:
                self._look()
                show(self._screen)
                if self._is_enough() or self._ends_by_key(show):
                    return

    def _screen(self, width: int, height: int) -> Text:
        from headrace.cli.top_drawing import screen

        note = f"looking again: {self.lost}" if self.lost else ""
        view = view_of(*self._looks, self._order)
        return screen(view, width, height, order=self._order, note=note)

    def _look(self) -> View | None:
        """What the node says now; None where it is gone."""
        try:
            facts, self._first = self._first or self._watch.look(), None
        except StoreUnavailable as error:
            self.lost = error.message
            return None
        self.lost, self._looks = "", (self._looks[1] if self._looked else None, facts)
        self._looked = True
        return view_of(*self._looks, self._order)

    def _is_enough(self) -> bool:
        if self._left is not None:
            self._left -= 1
        return self._left == 0

    def _ends_by_key(self, show: Show) -> bool:
        """Wait for the next look; whether it is the end instead."""
        until = time.monotonic() + self._interval
        while pressed := self._keys.wait(until - time.monotonic()):
            if pressed in "qQ":
                return True
            if pressed == "s":
                self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
                show(self._screen)
        return self._keys.ended is not None


@contextmanager
def _canvas() -> Generator[Show]:
    """The terminal's other screen, and the way to draw on it; on a terminal that has none, one
    picture below the other."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stdout)
    if console.is_dumb_terminal:
        yield lambda drawn: console.print(drawn(*console.size))
        return
    with Live(
        console=console,
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        yield lambda drawn: live.update(drawn(*console.size), refresh=True)
