"""Where this layer is put together, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Sequence

from headrace_namespace.backends.limit import LimitedBackend
from headrace_namespace.backends.observe import ObservedBackend
from headrace_namespace.backends.protocol import Backend
from headrace_namespace.backends.registry import open_backend
from headrace_namespace.backends.request_limits import attempts_of, simultaneous_of
from headrace_namespace.backends.retry import RetryingBackend, RetryPolicy
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.metadata.listings import Listings
from headrace_namespace.metadata.memory import MemoryMetadata
from headrace_namespace.namespace import MountedStore, Namespace
from headrace_namespace.offload import FETCH_THREADS, LOOK_THREADS, Offload


def open_namespace(
    declarations: Sequence[MountDeclaration], context: BackendContext, answers: MemoryMetadata
) -> Namespace:
    """The tree of these mounts. Raises ConfigError for an option that is wrong.

    No store is asked yet.
    """
    return Namespace(
        [_open_store(declaration, context) for declaration in declarations],
        metadata=answers,
        listings=Listings(),
        clock=context.clock,
    )


def _open_store(declaration: MountDeclaration, context: BackendContext) -> MountedStore:
    """A store in its wrappers: each attempt is counted, each waits for its turn, some are made
    again."""
    backend = open_backend(declaration.mount.url, declaration.options, context)
    observed = ObservedBackend(backend)
    limited: Backend = observed
    if not backend.stat_is_cheap:  # a local look runs on the caller's thread: nothing to wait for
        limited = LimitedBackend(observed, simultaneous_of(backend))
    policy = RetryPolicy(attempts=attempts_of(backend))
    retrying = RetryingBackend(limited, context.clock, policy, random.Random())
    return MountedStore(
        declaration.mount,
        retrying,
        observed,
        fetchers=Offload(min(FETCH_THREADS, simultaneous_of(backend))),
        looks=Offload(LOOK_THREADS),
    )
