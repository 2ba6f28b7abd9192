"""What the policy must decide, reckoned the plain way: rules over folders, the strictest of all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: From loose to strict.
WORDS = ("any", "sealed-ssd", "memory-only", "no-cache", "deny")
SEALED, MEMORY_ONLY, NO_CACHE, DENY = 1, 2, 3, 4
#: So many texts of one epoch are kept; one more is an error that is not this model's.
MOST_TEXTS = 30


@dataclass(frozen=True, slots=True, order=True)
class Decision:
    """Where bytes may be kept (an index of `WORDS`), and whether names must stay in memory."""

    persistence: int
    hidden: bool = False

    def join(self, other: Decision) -> Decision:
        return Decision(
            max(self.persistence, other.persistence),
            self.hidden or other.hidden,
        )

    @property
    def denies(self) -> bool:
        return self.persistence == DENY

    @property
    def allows_ssd(self) -> bool:
        return self.persistence <= SEALED and not self.hidden


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy file's content: a default, and a decision for each folder with all below it."""

    default: int
    rules: tuple[tuple[str, Decision], ...]

    def written(self, epoch: int) -> str:
        lines = ["version = 1", f"epoch = {epoch}", "[default]"]
        lines += [f'persistence = "{WORDS[self.default]}"', 'guarantee = "unattested"']
        for number, (folder, decision) in enumerate(self.rules):
            lines += [
                "[[rule]]",
                f'name = "rule {number}"',
                f'match.path = ["{folder}/**"]',
                f'apply.persistence = "{WORDS[decision.persistence]}"',
                'apply.guarantee = "unattested"',
            ]
            if decision.hidden:
                lines.append('apply.metadata = "memory-only"')
        return "\n".join(lines) + "\n"

    def decide(self, names: Iterable[str]) -> Decision:
        found = Decision(self.default)
        for name in names:
            for folder, decision in self.rules:
                if (name + "/").startswith(folder + "/"):
                    found = found.join(decision)
        return found


class PolicyModel:
    """The policy file, what of it is kept, and so what is in force after a look."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.epoch = 1
        self._own_epoch = 1
        self._own = PolicyText(SEALED, ())
        self._kept: list[PolicyText] = [self._own]
        self.broken = False
        self._put(self._own.written(1))

    def change(self, text: PolicyText, step: int) -> None:
        """Write the file anew, its epoch so much above (or below) the highest one."""
        if step == 0 and len(self._kept) >= MOST_TEXTS:
            step = 1
        epoch = max(1, self.epoch + step)
        self._own, self._own_epoch, self.broken = text, epoch, False
        self._put(text.written(epoch))
        if epoch > self.epoch:
            self.epoch, self._kept = epoch, [text]
        elif epoch == self.epoch:
            self._kept.append(text)

    def break_it(self, content: str | None) -> None:
        """The file is nonsense, or (None) gone."""
        self.broken = True
        if content is None:
            self.file.unlink(missing_ok=True)
        else:
            self._put(content)

    def mend(self) -> None:
        """The file is again what it was."""
        self.broken = False
        self._put(self._own.written(self._own_epoch))

    def text(self) -> str:
        """What the file holds."""
        return self.file.read_text()

    def decide(self, names: Iterable[str]) -> Decision:
        """What is in force for an object with these names."""
        return Decision(DENY) if self.broken else self.good(names)

    def good(self, names: Iterable[str]) -> Decision:
        """What was in force before the file broke, or is."""
        names = tuple(names)
        found = self._own.decide(names)
        for text in self._kept:
            found = found.join(text.decide(names))
        return found

    def _put(self, content: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(content)
        os.replace(fresh, self.file)
