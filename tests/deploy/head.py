"""The commands that the Containerfile tells at its head."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from tests.deploy.image import CONTAINERFILE

#: Options of them that have no value.
_FLAGS = ("--read-only",)


@dataclass(frozen=True, slots=True)
class Told:
    """`podman build`, `podman run`, … as the head has it, and its last word."""

    words: tuple[str, ...]

    @property
    def last(self) -> str:
        """The image, the volume, or the folder that it is about."""
        return self.words[-1]

    def values(self, option: str) -> list[str]:
        """What is given to an option, each time that it stands there."""
        found: list[str] = []
        rest = iter(self.words)
        for word in rest:
            name, equals, value = word.partition("=")
            if word.startswith("--") and name not in _FLAGS:
                value = value if equals else next(rest)
                found += [value] if name == option else []
        return found


def told(*beginning: str) -> list[Told]:
    """The commands that begin so."""
    lines = [line[4:] for line in CONTAINERFILE.read_text().splitlines() if line[:4] == "#   "]
    commands = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    split = [tuple(shlex.split(command)) for command in commands]
    return [Told(words) for words in split if words[: len(beginning)] == beginning]
