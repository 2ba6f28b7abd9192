"""A folder of small, large and far too large objects, and processes that read them all at once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_mounts.settings import LEAST_SSD_BYTES

HOUSE = Path(__file__).parents[2]
MIB = 1 << 20
PATIENCE = 170.0


@dataclass(frozen=True, slots=True)
class FilledWorld:
    """One store and one cache folder. Its memory tier is far smaller than what is read."""

    root: Path
    memory_bytes: int = 32 * MIB
    ssd_bytes: int = LEAST_SSD_BYTES

    def make_store(self) -> None:
        """Many small objects, some large, some too large for a tier of 32 MiB."""
        store = self.root / "store"
        store.mkdir()
        noise = os.urandom(8 * MIB)
        chance = random.Random(1)
        sizes = [chance.randrange(1, 64 << 10) for _ in range(400)]
        sizes += [chance.randrange(MIB, 6 * MIB) for _ in range(40)]
        sizes += [20 * MIB] * 4
        for number, size in enumerate(sizes):
            start = chance.randrange(len(noise))
            data = (noise[start:] + noise[:start]) * (size // len(noise) + 1)
            (store / f"object-{number}").write_bytes(data[:size])
        for number in range(2):
            with open(store / f"huge-{number}", "wb") as file:
                file.truncate(200 * MIB)

    def config(self, name: str = "headrace.toml") -> Path:
        """The configuration file, written anew."""
        file = self.root / name
        file.write_text(
            f'[[mount]]\npath = "/data"\nurl = "{self.root}/store"\n'
            f'[cache]\nfolder = "{self.root}/cache"\nmemory = {self.memory_bytes}\n'
            f'ssd = {self.ssd_bytes}\nkey_file = "{self.root}/key"\n'
            f'state_folder = "{self.root}/state"\n'
        )
        return file

    def start(
        self, *, seed: int = 0, reads: int = 25, alone: bool = True, descriptors: int | None = None
    ) -> subprocess.Popen[str]:
        """A process that reads (`crowd.py`); it may open so many descriptors."""
        words = [str(self.config()), str(seed), str(reads), "alone" if alone else "shared"]
        command = [sys.executable, "-m", "tests.bounds.crowd", *words]
        if descriptors is not None:
            command = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh", *command]
        return subprocess.Popen(
            command, cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@contextmanager
def ended(processes: Sequence[subprocess.Popen[str]]) -> Generator[None]:
    """Whatever happens, none of them is left."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def answer(process: subprocess.Popen[str], *, warned: str = "") -> dict[str, int]:
    """The most of each thing, when the process has ended well; of what it may have warned."""
    with ended([process]):
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    told = [line for line in err.splitlines() if not (warned and warned in line)]
    assert not told, err
    found: dict[str, int] = json.loads(out)
    return found
