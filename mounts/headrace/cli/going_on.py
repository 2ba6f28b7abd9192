"""The command by which one that was interrupted, or done in part, is gone on with.

The same command made again would not do: the first run made the target, so the second would put
the folder into it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

import click

from headrace.cli.call import Call
from headrace.cli.exit_codes import REFUSED_BY_POLICY
from headrace.cli.streams import complain
from headrace.cli.work import Tally

#: `-T` in coreutils' words.
no_target_directory = click.option(
    "-T",
    "--no-target-directory",
    "exact",
    is_flag=True,
    help="TARGET is the very name, never a folder to put things into; a folder is merged.",
)


class Rest:
    """Which sources are left, kept as the command to type: `call.go_on`, None when all is done."""

    def __init__(
        self, call: Call, options: Sequence[str], sources: Sequence[str], target: str, into: bool
    ) -> None:
        self._call = call
        self._options = [*options] if into else [*options, "-T"]
        self._left = list(sources)
        # One source that is left of many goes into the folder still.
        self._target = target if not into or target.endswith("/") else target + "/"
        self._note()

    def done(self, source: str) -> None:
        """Nothing is left of this source."""
        self._left.remove(source)
        self._note()

    def _note(self) -> None:
        if not self._left:
            self._call.go_on = None
            return
        config = ["--config", self._call.config] if self._call.config else []
        config += ["--node", self._call.node] if self._call.node else []
        places = [*self._left, self._target]
        guard = ["--"] if any(place.startswith("-") for place in places) else []
        words = ["headrace", *config, *self._options, *guard, *places]
        self._call.go_on = " ".join(map(shell_word, words))


def require_one_name(sources: Sequence[str], target: str, exact: bool) -> None:
    """Refuse a command of one place, whose target was forgotten, and one name for many sources."""
    if exact and len(sources) > 1:
        raise click.UsageError("with -T there is one source, and TARGET is its new name")
    if not sources:
        raise click.UsageError(f"Missing argument 'TARGET': say where {target} is to go")


def tell_rest(call: Call, tally: Tally) -> None:
    """After a part was done, say how the rest is; not where asking again is refused again."""
    if call.go_on and tally.objects and tally.failures and tally.code != REFUSED_BY_POLICY:
        complain(f"go on with: {call.go_on}")


def shell_word(text: str) -> str:
    """The text as one word for a shell, printable whatever it holds."""
    if text.isprintable():
        return shlex.quote(text)
    shown = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return "$'" + "".join(shown) + "'"
