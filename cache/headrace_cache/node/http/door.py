"""The HTTP door: an event loop in one thread of the node, and what it does with each request.

Warm bytes go from the cache's memory to the socket on the loop's thread; what may block is done by
a bounded number of others (`crowd.py`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import ipaddress
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from functools import lru_cache

from aiohttp import web

from headrace_cache.access import HttpAccess
from headrace_cache.local_service import LocalService
from headrace_cache.node.http import bounds
from headrace_cache.node.http.connections import Connections
from headrace_cache.node.http.crowd import Busy, Crowd
from headrace_cache.node.http.exchange import Exchange, Stalled, refusal
from headrace_cache.node.http.guard import (
    EVERYBODY,
    DoorTls,
    Guard,
    Outdated,
    certificate_names,
    server_tls,
)
from headrace_cache.node.http.opened import OpenObjects
from headrace_cache.node.http.routing import Routing
from headrace_cache.node.http.whole import WholeAnswer
from headrace_cache.wire import routes
from headrace_namespace.errors import (
    ConfigError,
    CredentialsRefused,
    HeadraceError,
    StoreUnavailable,
)

_log = logging.getLogger(__name__)

#: Connections that may wait to be taken.
BACKLOG = 512
#: What the thread of the loop has to end in, once nothing is under way.
JOIN_SECONDS = 5.0
#: Hosts that requests have named of which it is remembered whether they are this one: its clients
#: know it by a few names.
MOST_HOSTS = 16
#: The loop closes sockets in its own time, after they were let go of.
CLOSING_SECONDS = 0.05


class HttpDoor:
    """Serves clients of other hosts until it is closed."""

    def __init__(
        self,
        *,
        service: LocalService,
        access: HttpAccess,
        release: str,
        metrics: Callable[[], str] | None = None,
    ) -> None:
        """Begins to serve. `metrics` is what `/metrics` says, where anything says it. Raises
        ConfigError where the address or the certificate cannot be used."""
        self._guard = Guard(access.clients)
        known = access.clients or (EVERYBODY,)
        self._seen = {each.name: service.seen_by(each.principal) for each in known}
        self._headers = {
            routes.PROTOCOL_HEADER: str(routes.HTTP_PROTOCOL),
            routes.RELEASE_HEADER: release,
            "Server": "headrace",
        }
        self._release = release
        self._metrics = metrics
        self._ending = False
        #: Requests answered, whatever the answer.
        self.answered = 0
        self._refusals_from = 0.0
        self._tls = server_tls(access)
        listener = _listening(access)
        #: The port that it listens at, and the URL of that; others may have another name for it.
        self.port: int = listener.getsockname()[1]
        host = f"[{access.host}]" if ":" in access.host else access.host
        self.url = f"{'http' if self._tls is None else 'https'}://{host}:{self.port}"
        self._begun: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener,), name="headrace-http", daemon=True
        )
        self._thread.start()
        self._begun.result()

    def renew(self, access: HttpAccess) -> None:
        """Admit by these tokens, certificates and authorities from now on, also by connections that
        are open. Clients and address are those of the start. Raises ConfigError where they cannot
        be used; then those before stay in force."""
        guard, tls = Guard(access.clients), server_tls(access)

        def take() -> None:
            self._guard, self._tls = guard, tls
            self._connections.tls = tls

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(take)

    def close(self) -> None:
        """Take no more requests, wait a while for those under way, and end every connection."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(bounds.DRAIN_SECONDS + JOIN_SECONDS)

    def _run(self, listener: socket.socket) -> None:
        try:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(self._serve(listener))
        except Exception as error:
            if not self._begun.done():
                self._begun.set_exception(error)
            else:
                _log.exception("the node's HTTP door has ended by a fault")
        finally:
            self._loop.close()
            listener.close()

    async def _serve(self, listener: socket.socket) -> None:
        self._crowd = Crowd()
        self._objects = OpenObjects(time.monotonic)
        self._routing = Routing(self._objects)
        connections = self._connections = Connections(self._handle)
        connections.tls = self._tls
        self._loop.set_exception_handler(_note_fault)
        tasks = [
            self._loop.create_task(connections.accept(listener)),
            self._loop.create_task(self._end_old()),
        ]
        self._begun.set_result(None)
        await self._end.wait()
        self._ending = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        listener.close()
        connections.pre_shutdown()
        if not await self._crowd.wait_until_empty(bounds.DRAIN_SECONDS):
            _log.warning("the node ends while %d requests are under way", self._crowd.size)
        await connections.shutdown(CLOSING_SECONDS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSING_SECONDS)
        await asyncio.sleep(CLOSING_SECONDS)
        self._crowd.close()
        self._objects.close()

    async def _end_old(self) -> None:
        while True:
            await asyncio.sleep(bounds.LOOK_SECONDS)
            self._objects.end_old()
            self._connections.end_unread()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request: its answer, to its last byte. Who does not take that is given up."""
        answer = await self._answer(request)
        self.answered += 1
        try:
            if isinstance(answer, WholeAnswer) and answer.leaves_at_once(request):
                return answer
            async with asyncio.timeout(bounds.STALLED_SECONDS):
                await answer.prepare(request)
                await answer.write_eof()
        except TimeoutError:
            _cut_short(request, Stalled("the client takes nothing"))
        except ConnectionError as error:
            _cut_short(request, error)
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Who asks, whether there is room, and then its route."""
        target = request.raw_path.partition("?")[0]
        if request.method in ("GET", "HEAD") and target in (routes.HEALTH, routes.READY):
            ending = self._ending and target == routes.READY
            said = "ending\n" if ending else "ok\n"
            return web.Response(status=503 if ending else 200, text=said, headers=self._headers)
        if self._ending:
            return self._busy(request, "the node is ending")
        try:
            self._agree(request)
            exchange = self._known(request)
        except CredentialsRefused as error:
            self._log_refusal(request, error)
            answer = refusal(request, error, self._headers, 401)
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        except ConfigError as error:
            return refusal(request, error, self._headers, 426)
        except Outdated as error:
            answer = self._busy(request, str(error))
            answer.force_close()
            return answer
        try:
            with self._crowd.request(exchange.client.name):
                if target == routes.METRICS and request.method == "GET" and self._metrics:
                    said = await self._crowd.scrape(self._metrics)
                    return web.Response(text=said, headers=self._headers)
                return await self._routing.answer(exchange, target)
        except Busy as error:
            return self._busy(request, str(error))
        except ConnectionError as error:
            _cut_short(request, error)
            return web.Response(status=400)
        except Exception as error:
            if exchange.begun:
                # Whatever came now would be taken for the rest of the answer.
                _cut_short(request, Stalled(f"{type(error).__name__} at {_place(error)}"))
                return web.Response(status=500)
            return self._failed(request, error)

    def _failed(self, request: web.BaseRequest, error: Exception) -> web.Response:
        """What a client is told of an error, where it was told nothing yet."""
        if isinstance(error, HeadraceError):
            return refusal(request, error, self._headers)
        if isinstance(error, ValueError):
            wrong = ConfigError(f"the node was asked for nonsense: {error}")
            return refusal(request, wrong, self._headers, 400)
        # A fault of ours: who waits must learn of it. The log must not learn what he asked for.
        kind = type(error).__name__
        _log.error("a request could not be answered: %s at %s", kind, _place(error))
        fault = StoreUnavailable(f"the node failed: {kind}: {error}")
        return refusal(request, fault, self._headers, 500)

    def _agree(self, request: web.BaseRequest) -> None:
        """Raises ConfigError where a headrace client speaks another protocol."""
        spoken = request.headers.get(routes.PROTOCOL_HEADER)
        if spoken is not None and spoken != str(routes.HTTP_PROTOCOL):
            client = request.headers.get(routes.RELEASE_HEADER, "unknown")
            raise routes.other_protocol(self._release, routes.HTTP_PROTOCOL, client, spoken)

    def _known(self, request: web.BaseRequest) -> Exchange:
        """Who asks. Raises CredentialsRefused, Outdated."""
        transport = request.transport
        agreed: object = None if transport is None else transport.get_extra_info("sslcontext")
        if isinstance(agreed, DoorTls) and not agreed.trusts_as(self._tls):
            raise Outdated("the node has other authorities now: connect anew")
        shown: object = None if transport is None else transport.get_extra_info("peercert")
        if self._guard.admits_everybody and not _is_local(request.headers.get("Host", "")):
            # A page in a browser of this host may have a name of its own lead here.
            raise CredentialsRefused("without authentication this node answers to localhost alone")
        client = self._guard.identify(
            request.headers.get("Authorization"), certificate_names(shown)
        )
        return Exchange(request, client, self._seen[client.name], self._crowd, self._headers)

    def _busy(self, request: web.BaseRequest, why: str) -> web.Response:
        answer = refusal(request, StoreUnavailable(why), self._headers, 503)
        answer.headers["Retry-After"] = "1"
        return answer

    def _log_refusal(self, request: web.BaseRequest, error: CredentialsRefused) -> None:
        now = time.monotonic()
        if now >= self._refusals_from:
            self._refusals_from = now + bounds.REFUSAL_LOG_SECONDS
            _log.warning("refused a client at %s: %s", request.remote, error.message)


def _cut_short(request: web.BaseRequest, error: ConnectionError) -> None:
    """The client is gone, or is given up: its connection ends at once."""
    # Of other errors only the kind: their words may hold names, or data.
    why = error if isinstance(error, Stalled) else type(error).__name__
    _log.info("a request of %s was cut short: %s", request.remote, why)
    if request.transport is not None:
        request.transport.abort()


def _note_fault(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """What asyncio would log with all the words of its error."""
    error = context.get("exception")
    if isinstance(error, OSError):  # a connection's own end, TLS that was none
        _log.debug("a connection has ended: %s", type(error).__name__)
    else:
        _log.error("a fault in the HTTP door: %s", type(error).__name__)


def _place(error: BaseException) -> str:
    """Where in the program an error comes from."""
    steps = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{steps[0].filename}:{steps[0].lineno}" if steps else "an unknown place"


@lru_cache(MOST_HOSTS)
def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False  # a name, and who owns it has it lead where he likes


def _listening(access: HttpAccess) -> socket.socket:
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    try:
        return socket.create_server((access.host, access.port), family=family, backlog=BACKLOG)
    except OSError as error:
        where, number = f"{access.host}:{access.port}", error.errno or 0
        # The kernel's own words: Python adds the address once more.
        said = os.strerror(number) if number > 0 else error.strerror or error
        raise ConfigError(
            f"[node.http] listen: the node cannot listen at {where}: {said}",
            hint="another program may have the port"
            if error.errno == errno.EADDRINUSE
            else "listen at a name or an address of this host, or at 0.0.0.0",
        ) from None
