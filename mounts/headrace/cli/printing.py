"""How facts are printed: tables for people, JSON for programs, and no name can fool a terminal."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence


def print_json(facts: object) -> None:
    """One JSON document on one line, ASCII only, so that lone surrogates of a name survive."""
    sys.stdout.write(json.dumps(facts) + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """A table: drawn by rich on a terminal, else in aligned columns that `grep` and `cut` like.

    `right` holds an `r` at each column that is aligned to the right: `"-rr"`.
    """
    shown = [[escaped(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(headings, shown, right)
        return
    lines = [list(headings), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = [
            cell.rjust(width) if right[column : column + 1] == "r" else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def print_facts(facts: Mapping[str, object]) -> None:
    """One fact a line: `size  123`."""
    width = max(map(len, facts))
    for name, value in facts.items():
        sys.stdout.write(f"{name.ljust(width)}  {escaped(str(value))}\n")


def counted(number: int, noun: str) -> str:
    """How many there are: `1 object`, `2,000 objects`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def escaped(text: str) -> str:
    """The text on one line, whatever it holds: `\\n`, `\\x1b`, `\\udcff`, and `\\\\` for itself.

    A file's name may hold a newline or the codes that move a terminal's cursor.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        "\\\\"
        if character == "\\"
        else character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def shown_time(mtime: object) -> str:
    """Seconds since the epoch as local date and time; `-` where there are none."""
    if not isinstance(mtime, int | float):
        return "-"
    try:
        return datetime.datetime.fromtimestamp(mtime).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(mtime)


def _draw(headings: Sequence[str], rows: Iterable[Sequence[str]], right: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        number = right[column : column + 1] == "r"
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=sys.stdout).print(table)
