"""The error of a store that asks for a pause, which the retrying wrapper grants."""

from __future__ import annotations

from headrace_namespace.errors import StoreUnavailable


class SlowDown(StoreUnavailable):
    """The store is too busy now; it wants `wait_seconds` without requests, 0 where it says none."""

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        store: str | None = None,
        hint: str | None = None,
        wait_seconds: float = 0.0,
    ) -> None:
        super().__init__(message, path=path, store=store, hint=hint)
        self.wait_seconds = wait_seconds
