"""`policy check` and `policy explain`: is the file right, and what does it decide of a path."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import DONE, WORKING, WRONG_USE
from headrace.cli.local_path import LOCAL_FILE
from headrace.cli.printing import escaped, print_facts, print_json, print_table
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath

if TYPE_CHECKING:
    pass


@click.group()
def policy() -> None:
    """Check a policy file, or ask what the policy decides of a path."""


@policy.command(
    cls=Described, examples=("headrace policy check policy.toml",), codes=(DONE, WRONG_USE)
)
@click.argument("file", type=LOCAL_FILE)
@json_option
@pass_call
def check(call: Call, file: str, as_json: bool) -> None:
    """Check a policy file; no configuration is needed."""
    call.refuse_node("policy check reads a file of this one: leave it out, or use policy explain")
    from headrace_cache.opening import check_policy
    from headrace_namespace.config import read_text

    try:
        epoch, rules = check_policy(read_text(Path(file), "policy file"), file)
    except ConfigError as error:
        if as_json:
            print_json({"file": file, "epoch": None, "rules": [], "ok": False, "error": str(error)})
        raise
    if as_json:
        print_json({"file": file, "epoch": epoch, "rules": list(rules), "ok": True})
        return
    names = f": {', '.join(rules)}" if rules else ""
    count = "1 rule" if len(rules) == 1 else f"{len(rules)} rules"
    sys.stdout.write(escaped(f"{file} is right: epoch {epoch}, {count}{names}") + "\n")


@policy.command(
    cls=Described, examples=("headrace policy explain /lake/hr/pay.csv",), codes=WORKING
)
@click.argument("path", type=TREE_PATH)
@json_option
@pass_call
def explain(call: Call, path: str, as_json: bool) -> None:
    """Show what the policy decides of a path, and why.

    Whether it is served here, where its bytes may be kept, and which rules make it so.
    """
    said = call.service().explain(NamespacePath.parse(path))
    rules = [{"name": rule.name, "why": rule.why} for rule in said.rules]
    facts: dict[str, object] = {
        "path": said.path.text,
        "persistence": said.persistence,
        "metadata": said.metadata,
        "guarantee": said.guarantee,
    }
    refusal, readers = said.refusal, list(said.readers)
    if as_json:
        print_json(facts | {"readers": readers, "served": refusal is None, "rules": rules})
        return
    facts["readers"] = " and ".join(readers) or "everybody"
    print_facts(facts | {"served": f"no: {refusal}" if refusal else "yes"})
    sys.stdout.write("\n")
    print_table(("rule", "applies because"), [(rule["name"], rule["why"]) for rule in rules])
