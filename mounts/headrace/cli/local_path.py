"""A file of this machine as an argument: plain text to a command, completed by the shell itself."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem


class LocalFile(click.ParamType[str]):
    """The type of arguments that name a file or folder of this machine, or - for a stream."""

    name = "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell knows its files best."""
        return [CompletionItem(incomplete, type="file")]


#: The one such type.
LOCAL_FILE = LocalFile()


def source_then_target(
    source: click.ParamType[str], target: click.ParamType[str]
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """How SOURCE... is completed that a TARGET of another kind follows: nobody knows whether the
    word after the first is the target yet, so both kinds are offered there."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = source.shell_complete(context, parameter, incomplete)
        if context.params.get("target"):  # who fills the last place first
            found += target.shell_complete(context, parameter, incomplete)
        return found

    return complete
