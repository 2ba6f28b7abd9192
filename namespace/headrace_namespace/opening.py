"""Where this layer is put together, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from headrace_namespace.backends.limit import LimitedBackend
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend
from headrace_namespace.backends.read_only import ReadOnlyBackend
from headrace_namespace.backends.registry import open_backend
from headrace_namespace.backends.request_limits import attempts_of, simultaneous_of
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.backends.unusable import UnusableBackend
from headrace_namespace.config import table_from
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.metadata.ledger import Ledger
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.mount_table import Mount
from headrace_namespace.namespace import Namespace
from headrace_namespace.offload import FETCH_THREADS, LOOK_THREADS, Offload
from headrace_namespace.run_time_mounts import RunTimeMounts
from headrace_namespace.tree import MountedStore


def open_namespace(
    declarations: Sequence[MountDeclaration],
    context: BackendContext,
    answers: MemoryMetadata,
    ledger: Ledger,
    own_folders: Sequence[str],
    on_written: Callable[[], None] | None = None,
) -> Namespace:
    """The tree of these mounts, and of those that `ledger` keeps. Raises ConfigError for an option
    that is wrong in one of these; one of the ledger's that is wrong answers with that itself.

    `own_folders`, in which the cache keeps what it holds, are not mounted. No store is asked yet.
    """
    opener = _StoreOpener(context)
    stores = [opener.open(declaration) for declaration in declarations]
    return Namespace(
        RunTimeMounts(stores, ledger, opener, context, own_folders),
        metadata=answers,
        listings=Listings(),
        clock=context.clock,
        on_written=on_written,
    )


class _StoreOpener:
    """Opens stores, in their wrappers or bare."""

    def __init__(self, context: BackendContext) -> None:
        self._context = context

    def open(self, declaration: MountDeclaration) -> MountedStore:
        """A store in its wrappers: each attempt is counted, each waits for its turn, some are made
        again."""
        backend = self.open_bare(declaration)
        observed = ObservedBackend(backend)
        limited: Backend = observed
        if not backend.stat_is_cheap:  # a local look runs on the caller's thread, waiting for none
            limited = LimitedBackend(observed, simultaneous_of(backend))
        policy = RetryPolicy(attempts=attempts_of(backend))
        worn: Backend = RetryingBackend(limited, self._context.clock, policy, random.Random())
        if declaration.mount.read_only:
            worn = ReadOnlyBackend(worn, declaration.mount.path.text)
        return MountedStore(
            declaration.mount,
            worn,
            observed,
            fetchers=Offload(min(FETCH_THREADS, simultaneous_of(backend))),
            looks=Offload(LOOK_THREADS),
        )

    def open_bare(self, declaration: MountDeclaration) -> Backend:
        """The store alone."""
        context = replace(self._context, base_folder=declaration.base_folder)
        return open_backend(declaration.mount.url, declaration.options, context)

    def stand_in(self, mount: Mount, reason: str, base_folder: str) -> MountedStore:
        """What answers with `reason`; its objects are named as well as the URL tells."""
        places: Backend | None = None
        name = f"the mount {mount.path}"
        # Whatever is wrong, it was told already: then nothing can be told of its places.
        with suppress(Exception):
            bare = MountDeclaration(mount, table_from({}, name), base_folder)
            places = self.open_bare(bare)
        unusable = UnusableBackend(name, reason, places)
        return MountedStore(mount, unusable, ObservedBackend(unusable), Offload(1), Offload(1))
