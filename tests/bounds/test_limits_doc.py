"""docs/limits.md names every bound, with the figure that the code has."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from headrace_cache.extents.arena import ROW_BYTES
from headrace_mounts.settings import DEFAULT_MEMORY_BYTES, DEFAULT_SSD_BYTES
from tests.bench.peak_memory import AIM_BYTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/limits.md").read_text()

_ROW = re.compile(r"^\| (.+?) \| (.*?) \| .*? ?\| `([\w/]+\.py)` `(\w+)` \|$", re.MULTILINE)
_UNITS = {"": 1, " KiB": 1 << 10, " MiB": 1 << 20, " GiB": 1 << 30, " s": 1}
_FIGURE = re.compile(r"([\d,.]+)( [KMG]iB| s)?")
_PACKAGES = (ROOT / "namespace/headrace_namespace", ROOT / "cache/headrace_cache")

#: Bounds of steps, of what one answer holds, or of what is said: nothing grows by them.
OF_STEPS = {
    "MOST_ANSWER_BYTES",
    "MOST_ASKED_BYTES",
    "MOST_BODY_BYTES",
    "MOST_COUNT",
    "MOST_CLOSED",
    "MOST_COPIED",
    "MOST_COPY_PARTS",
    "MOST_CUTS",
    "MOST_DELETED",
    "MOST_EARLY",
    "MOST_JUDGED_SECONDS",
    "MOST_LISTED_BYTES",
    "MOST_LISTING_CUTS",
    "MOST_NAMED",
    "MOST_PAGES",
    "MOST_PART_BYTES",
    "MOST_PAST_BYTES",
    "MOST_PATH_BYTES",
    "MOST_RESOLVES",
    "MOST_SPARED",
    "MOST_SUMMED_BYTES",
    "MOST_TRIES",
    "MOST_TRIES_BY_OTHERS",
    "MOST_UNTOLD",
    "MOST_USES",
    "MOST_WAITS_FOR_ROOM",
}


def rows() -> list[tuple[str, str, str, str]]:
    return [(row[1], row[2], row[3], row[4]) for row in _ROW.finditer(TEXT)]


def module_of(file: str) -> str:
    """The module in one of the two layers whose file ends so."""
    found = [
        package.name + "." + file.removesuffix(".py").replace("/", ".")
        for package in _PACKAGES
        for place in (package / file,)
        if place.exists()
    ]
    if not found:
        pytest.fail(f"docs/limits.md names {file}, which is nowhere")
    return found[-1]


@pytest.mark.parametrize(
    ("what", "figure", "file", "name"), rows(), ids=lambda text: str(text)[:40]
)
def test_a_figure_is_that_of_the_code(what: str, figure: str, file: str, name: str) -> None:
    held: object = getattr(import_module(module_of(file)), name)
    if callable(held):
        return  # a reckoning, told in words
    match = _FIGURE.fullmatch(figure)
    assert match is not None, f"{what}: {figure} is no figure"
    number = float(match[1].replace(",", "")) * _UNITS[match[2] or ""]
    assert number == held, f"{what}: {name} in {file} is {held}"


def test_the_defaults_are_those_of_the_settings() -> None:
    for key, held in (("memory", DEFAULT_MEMORY_BYTES), ("ssd", DEFAULT_SSD_BYTES)):
        assert f"| `{key}` | {held >> 30} GiB |" in TEXT
    assert f"object {ROW_BYTES} bytes for our own bookkeeping" in " ".join(TEXT.split())
    assert f"at most {AIM_BYTES >> 20} MiB" in TEXT


def test_every_bound_is_named() -> None:
    """Who adds one tells what happens when it is reached."""
    named = {(module_of(file), name) for _, _, file, name in rows()}
    missing = [
        f"{file.relative_to(ROOT)}: {name}"
        for package in _PACKAGES
        for file in sorted(package.rglob("*.py"))
        for name in re.findall(r"^(MOST_\w+)\b.*= ", file.read_text(), re.MULTILINE)
        if name not in OF_STEPS
        and (".".join(file.relative_to(package.parent).with_suffix("").parts), name) not in named
    ]
    assert not missing, "not in docs/limits.md"
