"""Rules of the house that no linter knows, read from the syntax of every module."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
PACKAGES = [
    HOUSE / "namespace/headrace_namespace",
    HOUSE / "cache/headrace_cache",
    HOUSE / "mounts/headrace_mounts",
    HOUSE / "mounts/headrace",
]
MODULES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
#: The plan is 350 at most; past this a file does two things.
MOST_LINES = 400

Check = Callable[[ast.AST], Iterator[str]]


def shown(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def names_of_import(node: ast.AST, module: str) -> set[str]:
    """What `from module import ...` brings in by name."""
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[-1] == module:
        return {alias.name for alias in node.names}
    return set()


def dotted(node: ast.AST) -> str:
    """`datetime.datetime.now` of an expression made of names and dots; else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def makes_a_placement(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] == "Placement":
            yield f"line {node.lineno} constructs a Placement"
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == "Placement" and alias.asname not in (None, "Placement"):
                    yield f"line {node.lineno} hides Placement behind another name"


def reads_the_environment(tree: ast.AST) -> Iterator[str]:
    words = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(tree):
        told = dotted(node).split(".")
        if len(told) == 2 and told[0] == "os" and told[1] in words:
            yield f"line {getattr(node, 'lineno', 0)} reads {'.'.join(told)}"
        if found := names_of_import(node, "os") & words:
            yield f"line {getattr(node, 'lineno', 0)} imports {found}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "os" and alias.asname not in (None, "os"):
                    yield f"line {node.lineno} hides os behind another name"


def reads_a_clock(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        told = dotted(node)
        if told in ("time.time", "time.time_ns") or told.endswith(
            ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
        ):
            yield f"line {getattr(node, 'lineno', 0)} reads {told}"
        if found := names_of_import(node, "time") & {"time", "time_ns"}:
            yield f"line {getattr(node, 'lineno', 0)} imports {found}"


def offences(check: Check, allowed: Callable[[Path], bool]) -> list[str]:
    found: list[str] = []
    for path in MODULES:
        if not allowed(path):
            tree = ast.parse(path.read_text(encoding="utf-8"), shown(path))
            found += [f"{shown(path)}: {offence}" for offence in check(tree)]
    return found


def test_the_house_has_rooms() -> None:
    assert all(package.is_dir() for package in PACKAGES)
    assert any(path.name == "placement.py" for path in MODULES)


def test_only_the_policy_issues_placements() -> None:
    def allowed(path: Path) -> bool:
        return path.parent.name == "policy" and path.name in (
            "placement.py",
            "policy.py",
            "parsing.py",
        )

    assert offences(makes_a_placement, allowed) == []


def test_nothing_below_the_settings_reads_the_environment() -> None:
    def allowed(path: Path) -> bool:
        return path.name == "settings.py" or "headrace" in path.parts[len(HOUSE.parts) :]

    assert offences(reads_the_environment, allowed) == []


def test_only_the_clock_reads_the_clock() -> None:
    assert offences(reads_a_clock, lambda path: path.name == "clock.py") == []


def test_every_file_can_be_held_by_the_eye() -> None:
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (makes_a_placement, "Placement(1, 2, 3)"),
        (makes_a_placement, "x = placement.Placement(1, 2, 3)"),
        (makes_a_placement, "from headrace_cache.policy.placement import Placement as P"),
        (reads_the_environment, "import os\nos.environ['A']"),
        (reads_the_environment, "import os\nos.getenv('A')"),
        (reads_the_environment, "from os import environ"),
        (reads_the_environment, "import os as system"),
        (reads_a_clock, "import time\ntime.time()"),
        (reads_a_clock, "clock = time.time"),
        (reads_a_clock, "from time import time"),
        (reads_a_clock, "datetime.datetime.now()"),
        (reads_a_clock, "datetime.now(UTC)"),
    ],
)
def test_each_check_sees_what_it_forbids(check: Check, source: str) -> None:
    assert list(check(ast.parse(source)))


@pytest.mark.parametrize("check", [makes_a_placement, reads_the_environment, reads_a_clock])
def test_no_check_sees_what_is_allowed(check: Check) -> None:
    source = (
        "import os\nimport time\np: Placement\np.join(q)\nos.path\ntime.monotonic()\nclock.now()"
    )
    assert list(check(ast.parse(source))) == []
