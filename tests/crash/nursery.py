"""Processes made fast: one that has everything imported, and forks a child for each word.

`python -m tests.crash.nursery` reads JSON lists from stdin: `["start", TASK, argument ...]` answers
with the child's number; `["wait", number]` with how it ended, and what it left in its report file.
The children are real processes with a cache of their own: the nursery has opened none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HOUSE = Path(__file__).parents[2]


class Nursery:
    """The nursery's other end, in the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            cwd=HOUSE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._alive: set[int] = set()

    def start(self, task: str, *arguments: object) -> int:
        """A new process that does the task (a function of `tasks.py`); its number."""
        child = int(self._ask("start", task, *arguments))
        self._alive.add(child)
        return child

    def kill(self, child: int) -> None:
        """SIGKILL. It must not have been waited for."""
        assert child in self._alive
        os.kill(child, 9)

    def wait(self, child: int) -> int:
        """Until it ended; how, as `subprocess` says it."""
        self._alive.discard(child)
        return int(self._ask("wait", child))

    def close(self) -> None:
        for child in list(self._alive):
            self.kill(child)
            self.wait(child)
        self._process.communicate(timeout=60)

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery ended"
        return json.loads(line)


def main() -> None:
    from tests.crash import tasks

    for line in sys.stdin:
        word, *rest = json.loads(line)
        if word == "wait":
            print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(rest[0], 0)[1])), flush=True)
            continue
        child = os.fork()
        if child == 0:
            tasks.run(rest[0], rest[1:])
        print(json.dumps(child), flush=True)


if __name__ == "__main__":
    main()
