"""One bucket mounted twice: what one mount is refused, the other still gets."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import pytest

from headrace_cache.reading.single_flight import Flight
from headrace_namespace.errors import AccessRefused
from headrace_namespace.identity import ObjectVersion
from headrace_namespace.mount_table import Mount
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.memory_backend import MemoryBackend

PATIENCE = 30.0


def test_a_read_does_not_fail_with_another_mounts_flight() -> None:
    data = os.urandom(3 * PAGE)
    refused, allowed = (MemoryBackend("memory:lake") for _ in range(2))
    for lake in (refused, allowed):
        lake.set("o", data)
    began, both_wait = threading.Event(), threading.Event()

    def refuse(version: ObjectVersion, start: int) -> None:
        began.set()
        assert both_wait.wait(PATIENCE)
        raise AccessRefused("these keys may not read it")

    refused.before_read = refuse
    rig = Rig({"/refused": refused, "/allowed": allowed})
    claim = rig.flights.claim

    def noted_claim(
        version: bytes, groups: Sequence[Sequence[int]], mount: Mount | None = None
    ) -> tuple[list[Flight], list[Flight]]:
        new, others = claim(version, groups, mount)
        if others:
            both_wait.set()
        return new, others

    rig.flights.claim = noted_claim  # type: ignore[method-assign]
    first, second = (rig.service.open(path(f"/{name}/o")) for name in ("refused", "allowed"))
    raised: list[BaseException] = []

    def read_refused() -> None:
        with pytest.raises(AccessRefused) as caught:
            whole(first)
        raised.append(caught.value)

    reader = threading.Thread(target=read_refused)
    reader.start()
    assert began.wait(PATIENCE)
    assert whole(second) == data
    reader.join(PATIENCE)
    assert len(raised) == 1 and allowed.asked["read"] == 1
    rig.service.close()
