"""A service under a policy file that the test rewrites, beside others that share its SSD."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from headrace_cache.policy.purging import SETTLE_SECONDS
from headrace_cache.policy.watch import LOOK_SECONDS
from headrace_cache.service import OpenObject
from tests.fakes.local_cache import PAGE, Rig, path, whole
from tests.fakes.page_tier import DictTier

OPEN = "version = 1\nepoch = 1\n"


def rule(pattern: str, persistence: str = "memory-only", guarantee: str = "unattested") -> str:
    return (
        f'[[rule]]\nname = "{persistence} {pattern}"\nmatch.path = ["{pattern}"]\n'
        f'apply.persistence = "{persistence}"\napply.guarantee = "{guarantee}"\n'
    )


HR = OPEN + rule("/lake/hr/**")


class Watched(Rig):
    """A service under a policy file that the test rewrites."""

    file: Path

    def rewrite(self, content: str | None) -> None:
        write(self.file, content)
        self.clock.sleep(LOOK_SECONDS)
        self.watch.look()

    def take_mounts_of(self, other: Rig) -> None:
        """As if its mounts had been made here, and seen by the next look."""
        trees = other.namespace._trees  # pyright: ignore[reportPrivateUsage]
        self.namespace._trees = trees  # pyright: ignore[reportPrivateUsage]
        self.namespace.observing._trees = trees  # pyright: ignore[reportPrivateUsage]
        self.clock.sleep(LOOK_SECONDS)
        self.watch.look()

    def settle_down(self) -> None:
        self.clock.sleep(SETTLE_SECONDS)
        self.watch.look()

    @property
    def tier(self) -> DictTier:
        assert self.ssd is not None
        return self.ssd

    def sealed(self, opened: OpenObject) -> bool:
        return any(page.version == opened.version.digest() for page in self.tier.pages)


def write(file: Path, content: str | None) -> None:
    if content is None:
        file.unlink()
        return
    fresh = file.with_suffix(".new")
    fresh.write_text(content)
    os.replace(fresh, file)


Start = Callable[..., Watched]


def opened(rig: Rig, *names: str) -> list[OpenObject]:
    """Open handles on objects that are warm in memory and sealed."""
    handles: list[OpenObject] = [rig.service.open(path(f"/lake/{name}")) for name in names]
    for handle in handles:
        assert whole(handle) == handle.path.parts[1].encode() * PAGE
    return handles
