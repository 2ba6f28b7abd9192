"""A process of its own that reads through headrace and answers, line by line, what it saw.

Each line on stdin is a JSON list, a word and its arguments; each answer one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from headrace_cache.local_service import LocalService
from headrace_cache.service import OpenObject
from headrace_mounts.connect import connect
from headrace_namespace.errors import PolicyDenied
from headrace_namespace.path import NamespacePath


class Worker:
    """One connection, and the handles that it opened."""

    def __init__(self, config: Any) -> None:
        service = connect(config)
        assert isinstance(service, LocalService)
        self.service = service
        self.handles: dict[str, OpenObject] = {}
        # What the patrol does, and when it is done.
        self.watch = service.reader().gate._watch  # pyright: ignore[reportPrivateUsage]
        self.at_start = self.watch.now
        self.changed = threading.Event()
        follow = self.watch._follow  # pyright: ignore[reportPrivateUsage]
        parts = service._parts  # pyright: ignore[reportPrivateUsage]
        assert follow is not None and parts is not None
        purging = parts.purging

        def followed() -> None:
            follow()
            # A purge that failed is tried again by the next look, and the SSD is off until then.
            failed = purging._failed  # pyright: ignore[reportPrivateUsage]
            if self.watch.now is not self.at_start and not failed:
                self.changed.set()

        self.watch.follow(followed)

    def open(self, path: str) -> object:
        self.handles[path] = self.service.open(NamespacePath.parse(path))
        return self.read(path)

    def read(self, path: str) -> object:
        """All bytes of an open handle: a hash of them, and what had to be fetched for it."""
        before = self.service.status().bytes_fetched
        handle = self.handles[path]
        try:
            data = handle.read_at(0, handle.version.size)
        except PolicyDenied:
            return {"denied": True}
        fetched = self.service.status().bytes_fetched - before
        return {"start": data[:8].decode(), "length": len(data), "fetched": fetched}

    def await_change(self) -> object:
        """Asks nothing: the process notices by itself, or never."""
        seen = self.changed.wait(30)
        self.at_start = self.watch.now
        self.changed.clear()
        return {"seen": seen}

    def read_in_child(self, path: str) -> object:
        """What a child that is forked now reads from its parent's handle."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, json.dumps(self.read(path)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            answer = json.loads(pipe.read())
        os.waitpid(pid, 0)
        return answer

    def flush(self) -> object:
        self.service.flush()
        return {}

    def close(self) -> object:
        self.service.close()
        return {}


def main() -> None:
    worker = Worker(json.loads(sys.argv[1]))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        word, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, word)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
