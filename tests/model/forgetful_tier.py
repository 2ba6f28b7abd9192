"""A page tier as bad as its protocol lets it be: it forgets, and spoils what it does not fill."""

from __future__ import annotations

from collections.abc import Sequence

from headrace_cache.extents.page import PageId
from tests.fakes.page_tier import DictTier


class ForgetfulTier(DictTier):
    """Loses every page that it is asked for while `losing` says so."""

    losing = False

    def load(self, pages: Sequence[tuple[PageId, memoryview]]) -> list[bool]:
        if self.losing:
            for page, _ in pages:
                self._drop([page] if page in self.pages else [])
        answers = super().load(pages)
        for (_, target), filled in zip(pages, answers, strict=True):
            if not filled:  # what it holds then is undefined
                target[:] = b"\xdd" * len(target)
        return answers
