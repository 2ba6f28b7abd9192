"""Every command says what it does, shows examples to copy, and names its exit codes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from headrace.cli.commands import Described
from headrace.cli.program import SECTIONS, cli


def commands(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")
        else:
            yield f"{above} {name}", command


COMMANDS = dict(commands(cli, "headrace"))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_complete(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Described)
    text = command.get_help(click.Context(command, info_name=name))
    assert "Exit codes:" in text
    assert command.help and command.help.split("\n")[0].endswith(".")
    assert len(command.get_short_help_str(limit=100)) <= 64, "too long for the list of commands"
    for example in command.examples:
        assert example in text
        assert name.split()[-1] in shlex.split(example, comments=True)[:8] or "$(" in example


def test_the_list_of_commands_has_sections() -> None:
    text = cli.get_help(click.Context(cli, info_name="headrace"))
    for heading, names in SECTIONS.items():
        assert f"{heading}:" in text
        for name in names:
            assert name in cli.commands, f"{name} is listed and not there"
    assert "..." not in text.split("Reading:")[1], "a short help is cut off"
