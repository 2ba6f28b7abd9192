"""`completion`: the script by which a shell completes commands, options and paths of the tree."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from headrace.cli.commands import Described
from headrace.cli.exit_codes import DONE, WRONG_USE

_SHELLS = ("bash", "zsh", "fish")

#: Instead of click's own: bash breaks words at = and : too, which names of folders hold
#: (day=01), so what stands together on the line is put together for the question, and of the
#: answers only what follows the last break is given back. In an open quote nothing is escaped
#: but what that quote lets mean something. The machine's files come where no answer does.
_BASH = r"""%(complete_func)s() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} index word gap type value answer
    local -a words=()
    for (( index = 0; index <= COMP_CWORD; index++ )); do
        gap=${line%%%%[![:space:]]*}
        line=${line#"$gap"}
        word=${COMP_WORDS[index]}
        (( index == COMP_CWORD )) && word=$line
        line=${line#"$word"}
        if (( index == 0 )) || [[ -n $gap ]]; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
    done
    local current=${words[-1]} breaks=${COMP_WORDBREAKS//[^=:]/} head=
    [[ -n $breaks ]] && head=${current%%"${current##*[$breaks]}"}
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) compopt -o dirnames 2>/dev/null ;;
            file) compopt -o default 2>/dev/null ;;
            plain)
                case $current in
                    \'*) answer=${value//\'/\'\\\'\'} ;;
                    \"*)
                        answer=${value//\\/\\\\}
                        answer=${answer//\"/\\\"}
                        answer=${answer//\$/\\\$}
                        answer=${answer//\`/\\\`}
                        ;;
                    *)
                        printf -v answer %%q "$value"
                        answer=${answer#"$head"}
                        ;;
                esac
                COMPREPLY+=("$answer")
                [[ $value == */ ]] && compopt -o nospace 2>/dev/null
                ;;
        esac
    done < <(env COMP_WORDS="${words[*]}" COMP_CWORD=$(( ${#words[@]} - 1 )) \
        %(complete_var)s=bash_complete "$1")
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

#: A folder is gone on with, so no space is set after it; click's own scripts would set one.
_FOLDERS_GO_ON = {
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
    template = _BASH if shell == "bash" else complete.source_template
    script = template % complete.source_vars()
    old, new = _FOLDERS_GO_ON.get(shell, ("", ""))
    sys.stdout.write(script.replace(old, new) if old else script)
