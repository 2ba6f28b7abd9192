"""What `--json` prints is what its schema says, and what docs/commands.md says.

Each documented command is run, and its real output is validated. A table of the docs that is not
the schema's fails with the table as it should be; `python -m tests.mounts.test_cli_schemas` writes
all of them into the docs.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from headrace.cli.program import cli
from headrace.cli.schemas import Schema, documented, schema_of
from tests.mounts.command_line import Site, make_site

DOCS = Path(__file__).parents[2] / "docs/commands.md"
_TABLE = re.compile(r"(<!-- json: ([a-z ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

#: For each command, calls that together show every part of its output, and their exit codes.
CALLS: dict[str, list[tuple[int, list[str]]]] = {
    "ls": [(0, ["ls", "/data"]), (0, ["ls", "/"])],
    "stat": [(0, ["stat", "/data/a", "/data", "/"])],
    "tree": [(0, ["tree", "/data"])],
    "du": [(0, ["du", "/data"]), (0, ["du", "/data/a"])],
    "warm": [(1, ["warm", "/data", "/gov/hr", "/data/none", "/gov/denied/x"])],
    "drop": [(0, ["drop", "/data"]), (4, ["drop", "/data/none"])],
    "pin": [(0, ["pin", "/data/a"]), (3, ["pin", "/gov/hr/pay.csv"])],
    "unpin": [(0, ["unpin", "/data/a"])],
    "why": [(0, ["why", "/data/a"]), (0, ["why", "/gov/hr/pay.csv"])],
    "status": [(0, ["status"])],
    "top": [(0, ["top", "--count", "2", "--interval", "0.1"])],
    "put": [(0, ["put", "policy.toml", "/data/p"]), (4, ["put", "none", "/data/p"])],
    "get": [(0, ["get", "/data/a", "local"]), (4, ["get", "/data/none", "local"])],
    "cp": [(0, ["cp", "/data/a", "/data/b"]), (4, ["cp", "/data/none", "/data/b"])],
    "mv": [(0, ["mv", "/data/a", "/data/b"])],
    "rm": [(0, ["rm", "-r", "/data/d"])],
    "mkdir": [(0, ["mkdir", "/data/new"])],
    "mounts": [(0, ["mounts"])],
    "mount": [(0, ["mount", "/more", "other", "--ttl", "7d", "--tag", "a=b", "--read-only"])],
    "unmount": [(0, ["unmount", "/more"])],
    "policy check": [(0, ["policy", "check", "policy.toml"])],
    "policy explain": [(0, ["policy", "explain", "/gov/hr/pay.csv"])],
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("a", "d/b", "hr/pay.csv", "denied/x"):
        site.write(name, b"1,2,3")
    (site.root / "other").mkdir()
    return site


@pytest.mark.parametrize("command", documented())
def test_real_output_is_what_the_schema_says(site: Site, command: str) -> None:
    validator = validator_of(command)
    if command in ("why", "status", "unpin", "drop"):
        site.json("pin", "/data/a")
    if command == "unmount":
        site.json("mount", "/more", "other")
    if command == "status":  # also without one
        validator.validate(site.json("status"))
    with running_node(site) if command in ("top", "status") else nullcontext():
        for code, arguments in CALLS[command]:
            documents = site.lines(*arguments, code=code)
            assert documents
            for document in documents:
                validator.validate(document)


@contextmanager
def running_node(site: Site) -> Generator[int]:
    """A node of this site, while inside; its process."""
    node = subprocess.Popen(
        site.command("node"), stderr=subprocess.PIPE, cwd=site.root, env=site.env
    )
    assert node.stderr is not None
    try:
        assert b"serving" in node.stderr.readline()
        yield node.pid
    finally:
        node.terminate()
        node.wait(30)
        node.stderr.close()


def test_a_wrong_policy_file_is_said_in_the_same_shape(site: Site) -> None:
    (site.root / "wrong.toml").write_text("version = 2")
    validator_of("policy check").validate(site.json("policy", "check", "wrong.toml", code=2))


def test_a_schema_refuses_what_is_not_documented() -> None:
    validator = validator_of("drop")
    assert validator.is_valid({"objects": 1, "bytes": 2, "failed": []})
    assert not validator.is_valid({"objects": 1, "bytes": 2, "failed": [], "more": 1})
    assert not validator.is_valid({"objects": -1, "bytes": 2, "failed": []})
    assert not validator.is_valid({"objects": 1, "bytes": 2})


def test_each_command_prints_its_schema(site: Site) -> None:
    (schema,) = (site.run("ls", "--json-schema").stdout,)
    assert b"2020-12" in schema and b"headrace ls --json" in schema


def test_each_command_with_json_has_a_schema_or_says_why_not() -> None:
    with_json = {
        name
        for name, command in commands(cli, "")
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert with_json - {"demo"} <= set(documented())  # the demo is for people


def test_the_docs_have_each_table_as_the_schema_says() -> None:
    found = {match[2]: match[3] for match in _TABLE.finditer(DOCS.read_text())}
    assert set(found) == set(documented())
    for command, table in found.items():
        assert table == table_of(command), f"write: {table_of(command)}"


def test_the_docs_name_each_command() -> None:
    text = DOCS.read_text()
    for name, command in commands(cli, ""):
        if not isinstance(command, click.Group):
            assert re.search(rf"^### `{name}\b", text, re.MULTILINE), f"{name} is not in the docs"


def commands(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    """Every command by its whole name."""
    for name, command in group.commands.items():
        yield above + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


def validator_of(command: str) -> Any:
    """A validator of what a command prints; the schema itself is checked first."""
    schema = schema_of(command)
    assert schema is not None
    # jsonschema publishes no types.
    jsonschema: Any = import_module("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def table_of(command: str) -> str:
    """The table of the docs: every key with its type and meaning."""
    schema = schema_of(command)
    assert schema is not None
    lines = [f"`--json`, {schema['description']}:", "", "| key | type | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {kind} | {meaning} |" for key, kind, meaning in _rows(schema, "")]
    return "\n".join(lines) + "\n"


def _rows(schema: Schema, above: str) -> Iterator[tuple[str, str, str]]:
    for name, inner in schema.get("properties", {}).items():
        key = f"{above}{name}"
        meaning = inner["description"]
        if "enum" in inner:
            meaning += ": " + ", ".join(f"`{word}`" for word in inner["enum"] if word)
        yield key, _kind(inner), meaning
        while inner.get("type") == "array" or isinstance(inner.get("additionalProperties"), dict):
            key += "[]" if inner["type"] == "array" else ".*"
            inner = inner["items"] if inner["type"] == "array" else inner["additionalProperties"]
            if "properties" not in inner:
                yield key, _kind(inner), inner["description"]
        yield from _rows(inner, key + ".")


def _kind(schema: Schema) -> str:
    kind: str | list[str] = schema["type"]
    return kind if isinstance(kind, str) else " or ".join(kind)


def write_tables() -> None:
    """Write every table into the docs."""
    text = _TABLE.sub(lambda m: m[1] + table_of(m[2]) + m[4], DOCS.read_text())
    DOCS.write_text(text)


if __name__ == "__main__":
    write_tables()
