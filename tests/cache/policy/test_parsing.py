"""A policy file is understood whole or refused whole: the fail-closed table, and good examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headrace_cache.policy.parsing import MAX_RULES, parse_policy
from headrace_cache.policy.placement import Guarantee, MetadataKeeping, Persistence, Placement
from headrace_cache.policy.policy import BUILT_IN, UNRESTRICTED
from headrace_namespace.errors import ConfigError
from headrace_namespace.path import NamespacePath
from headrace_namespace.resolution import Name

DOCS = Path(__file__).parents[3] / "docs" / "policy.md"


def at(path: str, mount: str = "/lake", *tags: str) -> list[Name]:
    return [Name(NamespacePath(path), NamespacePath(mount), frozenset(tags))]


def rule(*lines: str) -> str:
    """A file whose one rule has `lines` from line 4 on."""
    return 'version = 1\n[[rule]]\nname = "r"\n' + "\n".join(lines) + "\n"


PATH = 'match.path = ["/x/**"]'
DENY = 'apply.persistence = "deny"'
NOT_ENFORCED = {
    "ttl": '"1h"',
    "clients": '["10.0.0.0/8"]',
    "regions": '["eu-west-1"]',
    "egress": '"raw"',
    "audit": '"access"',
    "audit_names": '"sealed"',
    "statistics": '"forbid"',
    "min_group": "20",
    "max_cached_bytes": '"1TiB"',
}

#: text of the file, line (None where the file has no line to name), words of the message
BROKEN: list[tuple[str, int | None, list[str]]] = [
    # Not a policy at all.
    ("", None, ["'version' is missing", "version = 1"]),
    ("not toml", 1, ["not valid TOML"]),
    ("version = 1\n[[rule]\n", 2, ["not valid TOML"]),
    ("version = 1\nversion = 1\n", 2, ["not valid TOML"]),
    ("version = 1\nepoch = \n", 2, ["not valid TOML"]),
    ("version = " + "9" * 5000, None, ["not valid TOML"]),
    ("version = 1\nx = " + "[" * 100_000, None, ["not valid TOML"]),
    ("\ufeffversion = 1", 1, ["not valid TOML"]),
    # Version and epoch.
    ("epoch = 1\n", None, ["'version' is missing"]),
    ("version = 2\n[future]\n", 1, ["version", "is 2", "version 1"]),
    ("version = 0\n", 1, ["version", "is 0"]),
    ("version = -1\n", 1, ["version", "-1"]),
    ('version = "1"\n', 1, ["version", "a whole number"]),
    ("version = 1.0\n", 1, ["version", "a whole number"]),
    ("version = true\n", 1, ["version", "a whole number"]),
    ("verison = 1\n", 1, ["verison", "did you mean 'version'?"]),
    ("version = 1\nepoch = -3\n", 2, ["epoch", "at least 0"]),
    ('version = 1\nepoch = "3"\n', 2, ["epoch", "a whole number"]),
    ("version = 1\nepoc = 3\n", 2, ["epoc", "did you mean 'epoch'?"]),
    # Tables.
    ("version = 1\n\n[defaults]\n", 3, ["defaults", "did you mean 'default'?"]),
    ("version = 1\n[default]\n", 2, ["default", "says nothing"]),
    ('version = 1\n[[default]]\npersistence = "deny"\n', 2, ["default", "must be a table"]),
    ('version = 1\ndefault = "deny"\n', 2, ["default", "must be a table"]),
    ('version = 1\n[default]\npersistance = "deny"\n', 3, ["did you mean 'persistence'?"]),
    ('version = 1\n[default]\npersistence = "memory_only"\n', 3, ["did you mean 'memory-only'?"]),
    ('version = 1\n[default]\npersistence = "Deny"\n', 3, ["'Deny' is not one of"]),
    ('version = 1\n[default]\npersistence = ""\n', 3, ["default.persistence"]),
    ('version = 1\n[default]\nmetadata = "sealed-ssd"\n', 3, ["default.metadata"]),
    ("version = 1\n[rule]\n", 2, ["rule", "[[rule]]"]),
    ("version = 1\nrule = 3\n", 2, ["rule", "[[rule]]"]),
    ('version = 1\n[[rules]]\nname = "r"\n', 2, ["rules", "did you mean 'rule'?"]),
    # A rule's name.
    (f"version = 1\n[[rule]]\n{PATH}\n{DENY}\n", 2, ["rule[0]", "'name' is missing"]),
    (f'version = 1\n[[rule]]\nnmae = "r"\n{PATH}\n{DENY}\n', 3, ["did you mean 'name'?"]),
    (f'version = 1\n[[rule]]\nname = ""\n{PATH}\n{DENY}\n', 3, ["cannot name a rule"]),
    (f'version = 1\n[[rule]]\nname = "a\\nb"\n{PATH}\n{DENY}\n', 3, ["cannot name a rule"]),
    (f'version = 1\n[[rule]]\nname = "default"\n{PATH}\n{DENY}\n', 3, ["'default'"]),
    (f"version = 1\n[[rule]]\nname = 5\n{PATH}\n{DENY}\n", 3, ["name", "a text"]),
    (
        rule(PATH, DENY) + f'[[rule]]\nname = "r"\n{PATH}\n{DENY}\n',
        7,
        ['rule["r"].name', "two rules are named 'r'"],
    ),
    # Conditions.
    (rule(DENY), 2, ['rule["r"].match', "names no path, mount or tag"]),
    (rule('match.not_path = ["/x/a"]', DENY), 4, ["match", "names no path, mount or tag"]),
    (rule("match.path = []", DENY), 4, ["match.path", "empty list"]),
    (rule(PATH, "match.not_path = []", DENY), 5, ["match.not_path", "empty list"]),
    (rule("match.mount = []", DENY), 4, ["match.mount", "empty list"]),
    (rule("match.tag = []", DENY), 4, ["match.tag", "empty list"]),
    (rule('match.path = "/x/**"', DENY), 4, ["match.path", "a list of texts"]),
    (rule('match.path = ["/x", 3]', DENY), 4, ["match.path", "a list of texts"]),
    (rule('match.path = ["x/**"]', DENY), 4, ["match.path", "'x/**'", "start with a slash"]),
    (rule('match.path = ["/x/../y"]', DENY), 4, ["match.path", "'..'"]),
    (rule('match.path = ["/x//y"]', DENY), 4, ["match.path", "two slashes"]),
    (rule('match.path = ["/x/"]', DENY), 4, ["match.path", "ends with a slash", "'/x/**'"]),
    (rule('match.path = [""]', DENY), 4, ["match.path", "start with a slash"]),
    (rule('match.path = ["/a**b"]', DENY), 4, ["match.path", "'**' beside"]),
    (rule('match.path = ["/ok", "/a***"]', DENY), 4, ["match.path", "'/a***'"]),
    (rule(PATH, 'match.not_path = ["x"]', DENY), 5, ["match.not_path", "start with a slash"]),
    (rule('match.paths = ["/x"]', DENY), 4, ["paths", "did you mean 'path'?"]),
    (rule(PATH, 'match.notpath = ["/x/a"]', DENY), 5, ["did you mean 'not_path'?"]),
    (rule('match.path_not = ["/x"]', DENY), 4, ["path_not", "is not a known key"]),
    (rule('match = ["/x"]', DENY), 4, ["match", "must be a table"]),
    (rule('match.mount = ["lake"]', DENY), 4, ["match.mount", "'lake'"]),
    (rule('match.mount = ["/lake/"]', DENY), 4, ["match.mount", "'/lake/'"]),
    (rule('match.mount = ["/lake/*"]', DENY), 4, ["match.mount", "wildcard"]),
    (rule('match.mount = ["/../x"]', DENY), 4, ["match.mount", "above the root"]),
    (rule('match.mount = ["headrace:///lake"]', DENY), 4, ["match.mount", "headrace:///lake"]),
    (rule('match.tag = ["pii"]', DENY), 4, ["match.tag", "'pii' is not a tag"]),
    (rule('match.tag = ["pii="]', DENY), 4, ["match.tag", "'pii='"]),
    (rule('match.tag = ["=eu"]', DENY), 4, ["match.tag", "'=eu'"]),
    (rule('match.tag = ["pii=e*"]', DENY), 4, ["match.tag", "'pii=e*'"]),
    (rule('match.tag = ["p*=eu"]', DENY), 4, ["match.tag", "'p*=eu'"]),
    (rule('match.tag = ["*"]', DENY), 4, ["match.tag", "'*'"]),
    (rule('match.tag = ["pii = eu"]', DENY), 4, ["match.tag", "'pii = eu'"]),
    # Demands.
    (rule(PATH), 2, ['rule["r"].apply', "demands nothing"]),
    (rule(PATH, "apply = {}"), 5, ['rule["r"].apply', "demands nothing"]),
    (rule(PATH, 'apply = "deny"'), 5, ["apply", "must be a table"]),
    (rule(PATH, 'apply.persistence = "memory-onyl"'), 5, ["did you mean 'memory-only'?"]),
    (rule(PATH, "apply.persistence = true"), 5, ["apply.persistence", "a text"]),
    (rule(PATH, 'apply.persistence = ["deny"]'), 5, ["apply.persistence", "a text"]),
    (rule(PATH, 'apply.memory_only = "yes"'), 5, ["memory_only", "is not a known key"]),
    (rule(PATH, 'apply.guarantee = "g1"'), 5, ["apply.guarantee", "did you mean 'G1'?"]),
    (rule(PATH, 'apply.guarantee = "G3"'), 5, ["apply.guarantee", "'G3'"]),
    (rule(PATH, 'apply.metadata = "forget"'), 5, ["apply.metadata", "persist, memory-only"]),
    (rule(PATH, DENY, 'aply.metadata = "persist"'), 6, ["aply", "did you mean 'apply'?"]),
    (rule(PATH, 'persistence = "deny"'), 5, ['rule["r"].persistence', "is not a known key"]),
    # Known to the model, not enforced by this version.
    ('version = 1\nsigned_by = ["a", "b"]\n', 2, ["signed_by", "cannot be enforced"]),
    (rule(PATH, DENY, 'ttl = "1h"'), 6, ['rule["r"].ttl', "cannot be enforced"]),
    (rule('match.groups = ["hr"]', PATH, DENY), 4, ["match.groups", "not a known key"]),
    *(
        (rule(PATH, DENY, f"apply.{key} = {value}"), 6, [f"apply.{key}", "cannot be enforced"])
        for key, value in NOT_ENFORCED.items()
    ),
    *(
        (f"version = 1\n[default]\n{key} = {value}\n", 3, [f"default.{key}", "cannot be enforced"])
        for key, value in NOT_ENFORCED.items()
    ),
    # A good beginning does not save a bad end.
    (rule(PATH, DENY) + '[[rule]]\nname = "s"\n' + DENY + "\n", 6, ['rule["s"].match']),
]


@pytest.mark.parametrize(("text", "line", "words"), BROKEN)
def test_a_broken_file_is_refused_whole(text: str, line: int | None, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "etc/policy.toml")
    said = str(caught.value)
    assert said.startswith("etc/policy.toml")
    for word in words:
        assert word in said
    lines = [int(found) for found in re.findall(r"line (\d+)", said)]
    assert lines[:1] == ([] if line is None else [line])


def test_too_many_rules_are_refused() -> None:
    def text(count: int) -> str:
        rules = (f'[[rule]]\nname = "{i}"\n{PATH}\n{DENY}\n' for i in range(count))
        return "version = 1\n" + "".join(rules)

    assert len(parse_policy(text(MAX_RULES), "p").rules) == MAX_RULES
    with pytest.raises(ConfigError, match=f"at most {MAX_RULES}"):
        parse_policy(text(MAX_RULES + 1), "p")


@pytest.mark.parametrize(
    "text", ["version = 1", "version = 1\r\nepoch = 7\r\n", "version = 1\nrule = []"]
)
def test_a_file_without_default_and_rules_is_the_built_in_default(text: str) -> None:
    policy = parse_policy(text, "p")
    assert policy.default == BUILT_IN
    assert policy.decide(at("/lake/a")) == UNRESTRICTED.decide(at("/lake/a"))


def test_the_epoch_is_kept() -> None:
    assert parse_policy("version = 1\nepoch = 42", "p").epoch == 42
    assert parse_policy("version = 1", "p").epoch == 0


def test_a_default_that_names_only_metadata_keeps_the_built_in_persistence() -> None:
    policy = parse_policy('version = 1\n[default]\nmetadata = "memory-only"', "p")
    assert policy.default == Placement(
        Persistence.SEALED_SSD, MetadataKeeping.MEMORY_ONLY, Guarantee.UNATTESTED
    )


INTERFACE_EXAMPLE = """
version = 1
epoch = 42
[default]
persistence = "sealed-ssd"            # any | sealed-ssd | memory-only | no-cache | deny
[[rule]]
name = "payroll"
match.path = ["/lake/hr/**"]          # also match.not_path, match.mount, match.tag
apply.persistence = "memory-only"
apply.metadata = "memory-only"        # persist | memory-only
apply.guarantee = "unattested"        # unattested | G1 | G2
"""


def test_the_example_of_the_interface() -> None:
    policy = parse_policy(INTERFACE_EXAMPLE, "policy.toml")
    strict = Placement(Persistence.MEMORY_ONLY, MetadataKeeping.MEMORY_ONLY, Guarantee.UNATTESTED)
    assert policy.epoch == 42
    assert policy.decide(at("/lake/hr")) == strict
    assert policy.decide(at("/lake/hr/2026/june.csv")) == strict
    assert policy.decide(at("/lake/sales.csv")) == BUILT_IN


MODEL_EXAMPLE = """
version = 1
epoch = 42
[default]
persistence = "sealed-ssd"
metadata = "persist"
[[rule]]
name = "payroll"
match.path = ["/lake/hr/payroll/**"]
match.not_path = ["/lake/hr/payroll/README.md"]
apply = {persistence = "memory-only", metadata = "memory-only", guarantee = "G1"}
[[rule]]
name = "eu-pii"
match.tag = ["pii=eu"]
apply = {persistence = "memory-only"}
[[rule]]
name = "finance-share"
match.mount = ["/finance"]
apply = {persistence = "sealed-ssd"}
"""


def test_the_example_of_the_model_as_far_as_it_is_enforced() -> None:
    policy = parse_policy(MODEL_EXAMPLE, "policy.toml")
    payroll = Placement(Persistence.MEMORY_ONLY, MetadataKeeping.MEMORY_ONLY, Guarantee.G1)
    tagged = Placement(Persistence.MEMORY_ONLY, MetadataKeeping.PERSIST, Guarantee.G1)
    assert policy.decide(at("/lake/hr/payroll/june.csv")) == payroll
    assert policy.decide(at("/lake/hr/payroll/README.md")) == BUILT_IN
    assert policy.decide(at("/lake/hr/payroll/README.md", "/lake", "pii=eu")) == tagged
    assert policy.decide(at("/finance/x", "/finance")) == BUILT_IN


def test_the_example_of_the_manual() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2  # the second is of who may read
    policy = parse_policy(blocks[0], "policy.toml")
    decided = policy.decide(at("/lake/hr/payroll/june.csv"))
    assert decided.persistence is Persistence.MEMORY_ONLY
    assert decided.guarantee is Guarantee.UNATTESTED
    assert policy.decide(at("/lake/hr/README.md")) == policy.default
    assert policy.decide(at("/lake/hr/readme.md")).persistence is Persistence.MEMORY_ONLY
    eu = policy.decide(at("/raw/customers.csv", "/raw", "pii=eu"))
    assert (eu.persistence, eu.guarantee) == (Persistence.MEMORY_ONLY, Guarantee.G1)
    assert policy.decide(at("/lake/keys/a.PEM")).denies
