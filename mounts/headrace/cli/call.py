"""What one call of the command line knows: its configuration, and the service once it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from headrace.cli.local_path import LOCAL_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from headrace_cache.service import CacheService

_Command = TypeVar("_Command", bound="Callable[..., object] | click.Command")


class Call:
    """One call of `headrace`; commands get it by `@pass_call`."""

    def __init__(self, config: str | None = None, *, debug: bool = False) -> None:
        self.config = config
        #: The node of another host that is asked instead of a cache of this one.
        self.node: str | None = None
        self.debug = debug
        self.log_level: str | None = None
        self.log_format: str | None = None
        #: The command that goes on with what an interrupt leaves, for the message that tells of it.
        self.go_on: str | None = None
        self._connected = False

    def service(self) -> CacheService:
        """The tree and its cache. Raises ConfigError."""
        # Imported here, so that `--help` and `policy check` open no index and load no cipher.
        from headrace_mounts.connect import connect, connect_node

        if self.node is not None:
            self._connected = True
            self.set_up_logs()
            return connect_node(self.node, {}, self.config)
        file = self.file()
        self._connected = True
        self.set_up_logs()
        return connect(file)

    def file(self) -> Path:
        """The configuration. Raises ConfigError."""
        from headrace_mounts.settings import find_file

        return find_file(self.config, option="--config")

    def refuse_node(self, instead: str) -> None:
        """For a command that asks no node of another host; `instead` says what it does, and what
        to use. Raises click.UsageError where one was named."""
        if self.node is not None:
            raise click.UsageError(f"--node is for reading from a node of another host; {instead}")

    def set_up_logs(self) -> str:
        """Let logs be heard as the options say, else as HEADRACE_LOG does; in which form. Raises
        ConfigError."""
        from headrace.cli.logs import FORMATS, LEVELS, set_up_logs
        from headrace_mounts.settings import log_choice

        level, form = log_choice(LEVELS, FORMATS)
        form = self.log_format or form
        set_up_logs(self.log_level or level, form)
        return form

    def close(self) -> None:
        """Flush and close the service, if there is one, so that its errors are still told."""
        if self._connected:
            from headrace_mounts.connect import disconnect_all

            self._connected = False
            disconnect_all()


pass_call = click.make_pass_decorator(Call)


def add_global_options(command: click.Command) -> None:
    """Let `--config` and `--debug` stand at this command, and at each below it."""

    def note_config(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Call).config = value

    def note_node(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Call).node = value

    def note_debug(context: click.Context, _option: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Call).debug = True

    def note_level(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Call).log_level = value

    def note_format(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if value is not None:
            context.ensure_object(Call).log_format = value

    command.params += [
        click.Option(
            ["--config"],
            type=LOCAL_FILE,
            metavar="FILE",
            expose_value=False,
            callback=note_config,
            help="The configuration; else HEADRACE_CONFIG, ….",
        ),
        click.Option(
            ["--node"],
            metavar="HOST:PORT",
            expose_value=False,
            callback=note_node,
            help="Ask a node of another host ([[remote]] says how).",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=note_debug,
            help="Show where in the program an error arose.",
        ),
        click.Option(
            ["--log-level"],
            type=click.Choice(("debug", "info", "warning", "error")),
            expose_value=False,
            callback=note_level,
            help="What to tell of on standard error; else HEADRACE_LOG, or warning.",
        ),
        click.Option(
            ["--log-format"],
            type=click.Choice(("text", "json")),
            expose_value=False,
            callback=note_format,
            help="As lines for people, or one JSON object a line.",
        ),
    ]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)


def json_option(command: _Command) -> _Command:
    """The one spelling of `--json`, and of `--json-schema`, which says what it prints."""
    command = click.option(
        "--json-schema",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_schema,
        help="Print the JSON Schema of what --json prints.",
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(
        command
    )


def _print_schema(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from headrace.cli.printing import print_json
    from headrace.cli.schemas import schema_of

    _, _, name = context.command_path.partition(" ")
    print_json(schema_of(name) or {})
    context.exit()
