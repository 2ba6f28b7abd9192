"""The commands, put together, and their errors turned into exit codes. `main` starts it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click

from headrace.cli.call import Call, add_global_options
from headrace.cli.changing import cp, mkdir, mv, rm
from headrace.cli.commands import Sectioned
from headrace.cli.completion import completion
from headrace.cli.demo import demo
from headrace.cli.exit_codes import (
    DONE,
    FAILED,
    INTERRUPTED,
    PIPE_CLOSED,
    WRONG_USE,
    exit_code,
)
from headrace.cli.failures import sentence
from headrace.cli.holding import drop, pin, unpin, why
from headrace.cli.interrupts import let_go_quietly
from headrace.cli.mounting import mount, mounts, unmount
from headrace.cli.node import node
from headrace.cli.policy import policy
from headrace.cli.printing import escaped
from headrace.cli.reading import cat, ls, stat
from headrace.cli.status import status
from headrace.cli.streams import OutputFailed, OutputUnwanted, complain, prepare_streams, silence
from headrace.cli.survey import du, tree
from headrace.cli.top import top
from headrace.cli.transfer import get, put
from headrace.cli.warm import warm
from headrace_namespace.errors import ConfigError, HeadraceError

_EPILOG = (
    "Exit codes: 0 done, 1 the operation failed, 2 wrong use, configuration or policy file, "
    "3 refused by policy, 4 no such path, 130 interrupted, 141 the output's reader had seen enough."
)


#: What stands together in `headrace --help`.
SECTIONS = {
    "Reading": ("ls", "tree", "stat", "du", "cat", "get"),
    "Writing": ("put", "cp", "mv", "rm", "mkdir"),
    "Cache": ("warm", "drop", "pin", "unpin", "why", "status"),
    "Tree": ("mounts", "mount", "unmount"),
    "Policy": ("policy",),
    "Node": ("node", "top"),
}


@click.group(
    cls=Sectioned, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@click.version_option(package_name="headrace", prog_name="headrace")
@click.pass_context
def cli(context: click.Context) -> None:
    """One tree over many stores, and a cache beside the compute.

    --config and --debug may also stand after the command.

    Example: headrace --config headrace.toml ls -l /lake
    """
    context.call_on_close(context.ensure_object(Call).close)


for command in (
    *(ls, tree, stat, du, cat, get),
    *(put, cp, mv, rm, mkdir),
    *(warm, drop, pin, unpin, why, status),
    *(mounts, mount, unmount, policy, node, top, completion, demo),
):
    cli.add_command(command)
cli.sections = SECTIONS
add_global_options(cli)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: returns its exit code, or raises SystemExit with it."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    if not prepare_streams():
        complain("standard output is closed; to throw the output away write >/dev/null")
        return FAILED
    try:
        code = cli.main(arguments, prog_name="headrace", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, click.Abort) as error:
        complain(f"interrupted; {error}" if str(error) else "interrupted")
        let_go_quietly(error)
        return INTERRUPTED
    except SystemExit as error:  # by a signal
        let_go_quietly(error)
        raise
    except OutputUnwanted:
        # Nothing more can be said on that pipe.
        silence(sys.stdout)
        return PIPE_CLOSED
    except OutputFailed as error:
        silence(sys.stdout)
        complain(str(error), error if debug else None)
        return FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return WRONG_USE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "headrace"
        complain(f"{error.format_message()} (see {path} --help)")
        return WRONG_USE
    except HeadraceError as error:
        complain(_sentence(error), error if debug else None)
        return exit_code(error)
    except OSError as error:
        full = " (raise ulimit -n)" if error.errno == errno.EMFILE else ""
        complain(f"{error}{full}", error if debug else None)
        return FAILED
    except Exception as error:
        said = f"this is a fault in headrace: {type(error).__name__}: {error}"
        complain(said + ("" if debug else " (--debug shows where)"), error if debug else None)
        return FAILED


def _sentence(error: HeadraceError) -> str:
    """The error on one line, its path first; a configuration's error may show an example."""
    said = str(error)
    if isinstance(error, ConfigError):
        return "\n".join(map(escaped, said.split("\n"))).rstrip()
    return sentence(error.path, error) if error.path else escaped(said)
