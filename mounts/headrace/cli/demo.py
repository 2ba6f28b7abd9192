"""`demo`: the command; what it shows is in `headrace.demo`."""

from __future__ import annotations

import sys

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import DONE, FAILED, INTERRUPTED, WRONG_USE
from headrace_namespace.errors import ConfigError


@click.command(
    cls=Described, examples=("headrace demo",), codes=(DONE, FAILED, WRONG_USE, INTERRUPTED)
)
@json_option
@pass_call
def demo(call: Call, as_json: bool) -> None:
    """Join real tables of a bucket and a folder through one tree.

    They are read cold, warm and memory-only, beside what reads them directly.
    Needs no configuration and no network, takes a few seconds, leaves nothing behind.
    """
    call.refuse_node("demo makes what it reads itself: leave it out")
    from headrace.demo.requirements import missing

    lacking = missing()
    if lacking:
        raise ConfigError(
            f"the demo needs packages that are not installed: {', '.join(lacking)}",
            hint=f"install them with: {sys.executable} -m pip install 'headrace[demo]'",
        )
    from headrace.demo.run import run

    run(as_json=as_json)
