"""One host's cache, as every process of these tests configures it, and files that say of themselves
what is in them."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20
SSD_BYTES = 64 * MIB

#: Twice what the SSD tier holds, so that it evicts all the time.
FILES = 80
SIZES = (70_000, 300_000, MIB, 2 * MIB + 5, 4 * MIB)
FOLDERS = ("open", "mine", "hr", "later")
#: Bytes at a file's beginning: its name, its generation and its size.
HEAD = 48


def content(name: str, generation: int) -> bytes:
    """What the file holds after so many writes."""
    chance = random.Random(f"{name} {generation}")
    size = chance.choice(SIZES)
    head = f"{name} {generation} {size}".encode().ljust(HEAD)
    return head + chance.randbytes(size - HEAD)


def generation_in(data: bytes) -> int:
    """The generation that the head names. Raises ValueError where it is none."""
    return int(data[:HEAD].split()[1])


def is_right(name: str, data: bytes) -> bool:
    """Whether this is the whole file in some generation."""
    try:
        return data == content(name, generation_in(data))
    except (ValueError, IndexError):
        return False


def names() -> list[str]:
    """Every file, as `folder/number`."""
    return [f"{FOLDERS[number % len(FOLDERS)]}/{number}" for number in range(FILES)]


@dataclass(frozen=True, slots=True)
class Site:
    """Everything lies in one folder, so that it can be copied and damaged."""

    root: Path
    ssd_bytes: int = SSD_BYTES

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def key_file(self) -> Path:
        return self.root / "keys" / "ssd.key"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def policy(self) -> Path:
        return self.root / "policy.toml"

    def config(self) -> dict[str, Any]:
        return {
            "mount": [{"path": "/lake", "url": str(self.source)}],
            "cache": {
                "folder": str(self.cache),
                "memory": "24MiB",
                "ssd": self.ssd_bytes,
                "key_file": str(self.key_file),
                "state_folder": str(self.state),
            },
            "policy": {"file": str(self.policy)},
        }

    def make(self, files: list[str]) -> None:
        """The files in their first generation, and a policy that keeps `hr` in memory."""
        for name in files:
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name, 1))
        self.rule(epoch=1, restricted=["hr"])

    def rule(self, epoch: int, restricted: list[str]) -> None:
        """Replace the policy: these folders are kept in memory only."""
        rules = "".join(
            f'[[rule]]\nname = "{folder}"\nmatch.path = ["/lake/{folder}/**"]\n'
            'apply.persistence = "memory-only"\napply.guarantee = "unattested"\n'
            for folder in restricted
        )
        draft = self.policy.with_suffix(".new")
        draft.write_text(f"version = 1\nepoch = {epoch}\n{rules}")
        os.replace(draft, self.policy)

    def bytes_on_disk(self) -> int:
        """What the cache folder takes of the disk, as `du` counts."""
        taken = 0
        for folder, _, files in os.walk(self.cache):
            for name in ["", *files]:
                with suppress(FileNotFoundError):  # evicted just now
                    taken += os.lstat(os.path.join(folder, name)).st_blocks * 512
        return taken

    def segments(self) -> list[Path]:
        return sorted((self.cache / "pages").iterdir())
