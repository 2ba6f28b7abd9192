"""What one call of the command line knows: its configuration, and the service once it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from headrace_cache.service import CacheService


class Call:
    """One call of `headrace`; commands get it by `@pass_call`."""

    def __init__(self, config: str | None = None, *, debug: bool = False) -> None:
        self.config = config
        self.debug = debug
        self._connected = False

    def service(self) -> CacheService:
        """The tree and its cache. Raises ConfigError."""
        # Imported here, so that `--help` and `policy check` open no index and load no cipher.
        from headrace_mounts.connect import connect
        from headrace_mounts.settings import find_file

        file = find_file(self.config, option="--config")
        self._connected = True
        return connect(file)

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

    def note_debug(context: click.Context, _option: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(Call).debug = True

    command.params += [
        click.Option(
            ["--config"],
            metavar="FILE",
            expose_value=False,
            callback=note_config,
            help="The configuration; else HEADRACE_CONFIG, ….",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=note_debug,
            help="Show where in the program an error arose.",
        ),
    ]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)


#: The one spelling of `--json`.
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
