"""`completion`: the script by which a shell completes commands, options and paths of the tree."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from headrace.cli.commands import Described
from headrace.cli.exit_codes import DONE, WRONG_USE

_SHELLS = ("bash", "zsh", "fish")

#: A folder is gone on with, so no space is set after it; click's own scripts would set one.
_FOLDERS_GO_ON = {
    "bash": (
        "COMPREPLY+=($value)",
        'COMPREPLY+=("$(printf %q "$value")"); [[ $value == */ ]] && compopt -o nospace',
    ),
    "zsh": (
        "compadd -U -V unsorted -a completions",
        "compadd -U -S '' -V unsorted -- ${(M)completions:#*/}\n"
        "        compadd -U -V unsorted -- ${completions:#*/}",
    ),
}


@click.command(
    cls=Described,
    examples=(
        'eval "$(headrace completion bash)"   # in ~/.bashrc',
        'eval "$(headrace completion zsh)"    # in ~/.zshrc',
        "headrace completion fish | source    # in ~/.config/fish/config.fish",
    ),
    codes=(DONE, WRONG_USE),
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which your shell completes headrace.

    Paths of the tree are completed by listing, which waits a second at most and is silent about
    errors. Give --config before the path, or set HEADRACE_CONFIG.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all three
    complete = kind(context.find_root().command, {}, "headrace", "_HEADRACE_COMPLETE")
    script = complete.source_template % complete.source_vars()
    old, new = _FOLDERS_GO_ON.get(shell, ("", ""))
    sys.stdout.write(script.replace(old, new) if old else script)
