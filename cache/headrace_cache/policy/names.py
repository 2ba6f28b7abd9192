"""Names of users and groups, as policy files and configurations write them."""

from __future__ import annotations

from headrace_namespace.config import Table


def names_in(table: Table, key: str) -> frozenset[str]:
    """The names or numbers in a list; none where it is absent. Raises ConfigError."""
    return frozenset(_checked(table, key, name) for name in table.texts(key))


def name_in(table: Table, key: str, default: str) -> str:
    """One name or number. Raises ConfigError."""
    return (
        _checked(table, key, table.text(key, default)) if key in table else table.text(key, default)
    )


def _checked(table: Table, key: str, name: str) -> str:
    """Patterns are refused: who writes one would think that it admits many."""
    if not name.isprintable() or name != name.strip() or not name or "*" in name:
        raise table.error(key, f"{name!r} is no name", "write a name or a number, in full")
    return name
