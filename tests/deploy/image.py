"""The image of the Containerfile without a container engine: its steps run in a folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy/container/Containerfile"
COMPOSE = ROOT / "deploy/compose"


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, and the stage that it is in; empty before the first."""

    stage: str
    word: str
    text: str

    @property
    def flags(self) -> list[str]:
        """What stands before the arguments, as `--from=build`."""
        return [part for part in shlex.split(self.text) if part.startswith("--")]

    @property
    def command(self) -> list[str]:
        """The exec form, a JSON list. Raises ValueError where it is none."""
        found = re.search(r"\[.*\]$", self.text)
        if found is None:
            raise ValueError(f"{self.word} {self.text}: needs a shell")
        return [str(part) for part in json.loads(found[0])]

    @property
    def pairs(self) -> dict[str, str]:
        """`NAME=value …`, of ENV, ARG and LABEL."""
        return dict(part.split("=", 1) for part in shlex.split(self.text))


def steps() -> list[Step]:
    """The instructions of the Containerfile, in their order."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    found: list[Step] = []
    stage = ""
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, text = line.split(maxsplit=1)
            if word == "FROM":
                stage = text.split()[-1]
            found.append(Step(stage, word, text))
    return found


def last(stage: str, word: str) -> Step:
    """What holds in a stage: its last such instruction, or that of the stage it begins from."""
    while True:
        held = [step for step in steps() if step.stage == stage]
        for step in reversed(held):
            if step.word == word:
                return step
        (begun,) = [step for step in held if step.word == "FROM"]
        stage = begun.text.split()[0]


def compose() -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    # What YAML holds is not known to a type checker.
    parsed: dict[str, Any] = YAML(typ="safe", pure=True).load(  # pyright: ignore[reportUnknownMemberType]
        COMPOSE / "compose.yaml"
    )
    return parsed


@dataclass(frozen=True, slots=True)
class Image:
    """A folder in which stands, under `opt/headrace`, what the image of the jobs has there."""

    folder: Path

    @property
    def programs(self) -> Path:
        """What is /opt/headrace in the image."""
        return self.folder / "opt/headrace"

    @property
    def places(self) -> Mapping[str, str]:
        """Where in this machine the image's folders are."""
        return {
            "/src": str(self.folder / "src"),
            "/wheel": str(self.folder / "wheel"),
            "/opt/headrace": str(self.programs),
        }

    def here(self, text: str, more: Mapping[str, str] | None = None) -> str:
        """A step's text with the image's folders where they are here."""
        for place, found in {**self.places, **(more or {})}.items():
            text = re.sub(rf"(?<![\w/.]){re.escape(place)}(?![\w.])", found, text)
        return text


def built(folder: Path) -> Image:
    """Run what the Containerfile runs to build, from what it copies. Raises CalledProcessError."""
    image = Image(folder)
    for step in building():
        if step.word == "COPY":
            *sources, target = shlex.split(step.text)
            for source in sources:
                _copy(ROOT / source, Path(image.here(target)), into=target.endswith("/"))
        elif step.word == "RUN":
            extras = last("build", "ARG").pairs
            command = re.sub(r"(^|&& )python ", rf"\1{sys.executable} ", image.here(step.text))
            subprocess.run(
                ["sh", "-euc", command],
                env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **extras, **_of_pip()},
                stdout=subprocess.DEVNULL,
                check=True,
            )
    return image


def building() -> Iterator[Step]:
    """The steps of the stages that make /opt/headrace."""
    yield from (step for step in steps() if step.stage in ("build", "jobs"))


def _copy(source: Path, target: Path, *, into: bool) -> None:
    if into:
        target.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def _of_pip() -> dict[str, str]:
    """Where this machine gets packages, and whom it trusts to send them."""
    names = ("PIP_", "SSL_CERT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    return {name: value for name, value in os.environ.items() if name.upper().startswith(names)}
