"""What a tier with files and threads promises beyond `PageTier`: a child process can go on."""

from __future__ import annotations

from typing import Protocol

from headrace_cache.tiers.protocol import PageTier


class ForkAwareTier(PageTier, Protocol):
    """A page tier that can be told that this process is a forked child."""

    def after_fork_in_child(self) -> None:
        """Let go of what the parent had open, without disturbing it; the tier opens its own next.

        To be called in the child before any other thread is started.
        """
        ...
