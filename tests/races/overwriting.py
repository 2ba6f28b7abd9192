"""An overwrite loop: one writer, and processes that read all the while under several contracts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tests.races.ledger import Ledger
from tests.races.overwrite_reader import Job
from tests.races.tally import Tally

HOUSE = Path(__file__).parents[2]
PATIENCE = 60.0


class OverwriteLoop:
    """Processes, each with jobs by name; a write gets the number of a version to put in place."""

    def __init__(self, ledger: Ledger, processes: Sequence[Mapping[str, Job]]) -> None:
        self._ledger = ledger
        self._processes = processes

    def run(self, rounds: int, writes: Sequence[Callable[[int], None]]) -> Mapping[str, Tally]:
        """Overwrite so often, by each of `writes` in turn; the readers' tallies.

        Every second version is left there until somebody has read it, the others are replaced at
        once.
        """
        seen, told = os.pipe()
        os.set_blocking(told, False)
        with ExitStack() as stack:
            stack.callback(os.close, seen)
            readers = [stack.enter_context(_reader(jobs, told)) for jobs in self._processes]
            os.close(told)
            for reader in readers:
                assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
            for number in range(rounds):
                version = self._ledger.begun + 1
                self._ledger.begin(version)
                writes[number // 2 % len(writes)](version)
                self._ledger.acknowledge(version)
                if number % 2:
                    _await(seen, version)
            tallies: dict[str, Tally] = {}
            for reader in readers:
                out, _ = reader.communicate("", PATIENCE)
                tallies |= {name: Tally(**tally) for name, tally in json.loads(out).items()}
        return tallies


def _reader(jobs: Mapping[str, Job], pipe: int) -> subprocess.Popen[str]:
    given = json.dumps({name: asdict(job) for name, job in jobs.items()})
    return subprocess.Popen(
        [sys.executable, "-m", "tests.races.overwrite_reader", str(pipe), given],
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(pipe,),
    )


def _await(seen: int, version: int) -> None:
    """Return when somebody has read this version."""
    while True:
        told = os.read(seen, 1 << 16)
        if not told:
            raise AssertionError("no reader is left")
        whole = len(told) // 8 * 8
        versions = (int.from_bytes(told[at : at + 8], "little") for at in range(0, whole, 8))
        if version in versions:
            return
