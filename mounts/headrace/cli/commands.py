"""How a command shows its help: what it does, examples to copy, and the exit codes it may give."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from headrace.cli.call import Call
from headrace.cli.exit_codes import MEANINGS
from headrace.cli.failures import seen
from headrace.cli.interrupts import remembered_interrupts


class Described(click.Command):
    """A command with a block of examples and its exit codes below its help."""

    def __init__(
        self, *arguments: Any, examples: Sequence[str], codes: Sequence[int], **named: Any
    ) -> None:
        # What click itself takes is click's to check.
        super().__init__(*arguments, **named)
        self.examples = tuple(examples)
        self.codes = tuple(codes)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, then the exit codes."""
        with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
            for example in self.examples:
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), MEANINGS[code]) for code in self.codes])


def _abort(context: click.Context) -> click.Abort:
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    call = context.find_object(Call)
    rest = call.go_on if call else None
    return click.Abort(f"go on with: {rest}") if rest else click.Abort()


class Sectioned(click.Group):
    """A group whose commands are listed under headings; what has none comes last."""

    sections: Mapping[str, Sequence[str]] = {}

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An interrupt becomes Abort here, for click would print an empty line
        whether standard error is a terminal, on which `^C` stands already, or not."""
        with remembered_interrupts() as interrupted:
            try:
                answer: object = super().invoke(ctx)
            except KeyboardInterrupt as error:
                raise _abort(ctx) from error
            except Exception as error:
                if interrupted():
                    raise _abort(ctx) from error
                seen(error)  # here, where it is still known whether a node was asked
                raise
            if interrupted():
                raise _abort(ctx)
            return answer

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by their sections."""
        placed = {name for names in self.sections.values() for name in names}
        other = [name for name in self.list_commands(ctx) if name not in placed]
        for heading, names in (*self.sections.items(), ("Other", other)):
            rows = [
                (name, command.get_short_help_str(limit=formatter.width))
                for name in names
                if (command := self.get_command(ctx, name)) is not None and not command.hidden
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
