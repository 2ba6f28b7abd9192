"""A listing's pages in order, the next one asked for while the one before is used.

A store answers page after page, for the token of the next is in the one before; but its time and
the reader's need not add up. Only who asks for a second page is read ahead for, so that a look at
the first names, and most folders, cost one request.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Iterator

from headrace_namespace.backends.protocol import ListPage
from headrace_namespace.errors import StoreTimeout
from headrace_namespace.latch import Latch
from headrace_namespace.offload import WAIT_SECONDS, Offload

#: Asks for the page of a token; None begins.
AskPage = Callable[[str | None], ListPage]


def pages(ask: AskPage) -> Iterator[ListPage]:
    """The pages of a listing, each asked for when its turn comes."""
    page = ask(None)
    yield page
    while page.next_token is not None:
        page = ask(page.next_token)
        yield page


def pages_ahead(ask: AskPage, looks: Offload) -> Iterator[ListPage]:
    """The same, asked for on threads of `looks`, from the third on one page ahead."""
    first = looks.run(lambda: ask(None))
    yield first
    coming = None if first.next_token is None else _ComingPage(ask, looks, first.next_token)
    while coming is not None:
        yield coming.taken()
        coming = coming.following


class _ComingPage:
    """A page on its way. The one that follows is asked for as soon as this one both came and is
    wanted, by whoever sees to the second of these: so there is never more than one ahead."""

    def __init__(self, ask: AskPage, looks: Offload, token: str) -> None:
        self.following: _ComingPage | None = None
        self._ask = ask
        self._looks = looks
        self._token = token
        self._lock = allocate_lock()
        self._came_or_wanted = False
        self._landed = Latch()
        self._page: ListPage | None = None
        self._error: BaseException | None = None
        looks.submit(self._fly)

    def taken(self) -> ListPage:
        """The page when it has come, or what stopped it raised. Raises StoreTimeout."""
        self._see_to_next()
        if not self._landed.wait(WAIT_SECONDS):
            raise StoreTimeout(f"a page of a listing did not come in {WAIT_SECONDS:.0f} s")
        if self._error is not None:
            raise self._error
        assert self._page is not None
        return self._page

    def _fly(self) -> None:
        try:
            self._page = self._ask(self._token)
            self._see_to_next()
        except BaseException as error:  # whatever it is, the one who waits must learn of it
            self._error = error
        finally:
            self._landed.open()

    def _see_to_next(self) -> None:
        with self._lock:
            second, self._came_or_wanted = self._came_or_wanted, True
        if second and self._page is not None and self._page.next_token is not None:
            self.following = _ComingPage(self._ask, self._looks, self._page.next_token)
