"""A path of the tree as an argument: plain text to a command, completed by listing for a shell."""

from __future__ import annotations

import itertools
import threading

import click
from click.shell_completion import CompletionItem

from headrace.cli.call import Call

#: How long a person waits for a completion: a store that is slower completes nothing.
COMPLETION_SECONDS = 1.0
#: More than a shell can show.
MOST_COMPLETIONS = 1000


class TreePath(click.ParamType[str]):
    """The type of arguments that name something in the tree."""

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What lies in the folder that was begun; nothing where anything is wrong or slow."""
        found: list[CompletionItem] = []
        call = ctx.find_object(Call) or Call()

        def look() -> None:
            try:
                found.extend(_names(call, incomplete))
            except Exception:
                return  # a shell's prompt is no place for an error

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(COMPLETION_SECONDS)
        return list(found) if not looking.is_alive() else []


def _names(call: Call, incomplete: str) -> list[CompletionItem]:
    from headrace_namespace.path import NamespacePath

    folder, _, begun = incomplete.rpartition("/")
    shown = itertools.islice(
        (
            entry
            for entry in call.service().list(NamespacePath.parse(folder or "/"))
            if entry.path.name.startswith(begun) and entry.path.name.isprintable()
        ),
        MOST_COMPLETIONS,
    )
    return [
        CompletionItem(f"{folder}/{entry.path.name}" + ("/" if entry.is_folder else ""))
        for entry in shown
    ]


#: The one such type.
TREE_PATH = TreePath()
