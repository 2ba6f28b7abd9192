"""The command `headrace`: puts the commands together, and turns errors into exit codes."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

import click

from headrace.cli.call import Call
from headrace.cli.demo import demo
from headrace.cli.exit_codes import DONE, FAILED, INTERRUPTED, WRONG_USE, exit_code
from headrace.cli.policy import policy
from headrace.cli.printing import escaped
from headrace.cli.reading import cat, ls, stat
from headrace.cli.state import mounts, status
from headrace_namespace.errors import ConfigError, HeadraceError

_EPILOG = (
    "Exit codes: 0 done, 1 the operation failed, 2 wrong use, configuration or policy file, "
    "3 refused by policy, 4 no such path, 130 interrupted."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option("--config", metavar="FILE", help="The configuration; else HEADRACE_CONFIG, ….")
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
@click.version_option(package_name="headrace", prog_name="headrace")
@click.pass_context
def cli(context: click.Context, config: str | None, debug: bool) -> None:
    """One tree over many stores, and a cache beside the compute.

    Example: headrace --config headrace.toml ls -l /lake
    """
    call = Call(config, debug=debug)
    context.obj = call
    context.call_on_close(call.close)


for command in (ls, stat, cat, mounts, status, policy, demo):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line: returns its exit code, or raises SystemExit with it."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding cannot show must not end the listing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(arguments, prog_name="headrace", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing more can be said on that pipe.
        _silence(sys.stdout)
        return FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return WRONG_USE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "headrace"
        _complain(f"{error.format_message()} (see {path} --help)")
        return WRONG_USE
    except HeadraceError as error:
        _complain(_sentence(error), error if debug else None)
        return exit_code(error)
    except OSError as error:
        _complain(str(error), error if debug else None)
        return FAILED
    except Exception as error:
        said = f"this is a fault in headrace: {type(error).__name__}: {error}"
        _complain(said + ("" if debug else " (--debug shows where)"), error if debug else None)
        return FAILED


def _sentence(error: HeadraceError) -> str:
    """The error on one line, its path first; a configuration's error may show an example."""
    said = str(error)
    if isinstance(error, ConfigError):
        return "\n".join(map(escaped, said.split("\n"))).rstrip()
    return escaped(said if not error.path or error.path in said else f"{error.path}: {said}")


def _complain(sentence: str, error: BaseException | None = None) -> None:
    try:
        if error is not None:
            sys.stderr.write("".join(traceback.format_exception(error)))
        sys.stderr.write(f"headrace: {sentence}\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is still buffered for a closed pipe go nowhere when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
