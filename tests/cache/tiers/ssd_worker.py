"""A process that uses an SSD tier: `WHAT SEED THREADS ROUNDS` (0 rounds: until killed).

It stores and loads pages whose content follows from their name, so that every process can tell
whether a page is right; it prints a line per round, and exits with 1 where one was wrong.

    churn  store, load and forget
    purge  store what is covered and what stays, purge, and see that only the one is gone
    serve  do what stdin says: load, store, purge, end
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from pathlib import Path

from headrace_cache.extents.page import PageId
from headrace_cache.tiers.protocol import PageTier
from tests.cache.tiers.ssd_pages import COVERED, STAYING, covers_hr, fill, served
from tests.cache.tiers.ssd_world import SsdWorld
from tests.conformance.page_tier_suite import FOLDER, random_page, text_page, version

VERSIONS, PAGES = 40, 8


def content(page: PageId) -> bytes:
    chance = random.Random(page.version + bytes([page.index, 1]))
    length = chance.choice([100, 5000, 70_000, 300_000, 1 << 20])
    return chance.choice([random_page, text_page])(page, length)


def all_pages() -> list[PageId]:
    return [PageId(version(number), index) for number in range(VERSIONS) for index in range(PAGES)]


def count_right(tier: PageTier) -> int:
    """How many of all pages are served; raises where one is wrong."""
    right = 0
    for page in all_pages():
        data = content(page)
        target = bytearray(len(data))
        if tier.load([(page, memoryview(target))]) == [True]:
            if bytes(target) != data:
                raise AssertionError(f"{page} is wrong")
            right += 1
    return right


def churn(tier: PageTier, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    done = 0
    while not rounds or done < rounds:
        done += 1
        batch = [
            PageId(version(chance.randrange(VERSIONS)), chance.randrange(PAGES)) for _ in range(4)
        ]
        datas = [content(page) for page in batch]
        if chance.random() < 0.05:
            tier.forget(batch[0].version)
        tier.store(
            [(page, memoryview(data)) for page, data in zip(batch, datas, strict=True)], FOLDER
        )
        targets = [bytearray(len(data)) for data in datas]
        answers = tier.load(
            [(page, memoryview(target)) for page, target in zip(batch, targets, strict=True)]
        )
        for answer, target, data in zip(answers, targets, datas, strict=True):
            if answer and bytes(target) != data:
                raise AssertionError("a page is wrong")
        # One write per line: `print` makes two, which threads would mix.
        sys.stdout.write(f"{sum(answers)}\n")
        sys.stdout.flush()


def purge(tier: PageTier, rounds: int) -> None:
    done = 0
    while not rounds or done < rounds:
        done += 1
        fill(tier)
        tier.purge(covers_hr)
        if served(tier, STAYING) != len(STAYING):
            raise AssertionError("what is not covered was lost")
        print(done, flush=True)


def serve(tier: PageTier) -> None:
    for word in sys.stdin:
        if word == "end\n":
            break
        if word == "store\n":
            fill(tier)
        elif word == "purge\n":
            tier.purge(covers_hr)
        print(served(tier, COVERED), served(tier, STAYING), flush=True)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    root, limit, what, seed, threads, rounds = sys.argv[1:]
    tier = SsdWorld(Path(root), int(limit)).open()
    if what == "serve":
        serve(tier)
        tier.close()
        return
    print("open", flush=True)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            if what == "purge":
                purge(tier, int(rounds))
            else:
                churn(tier, int(seed) + number, int(rounds))
        except BaseException as error:
            failed.append(error)
            raise

    running = [threading.Thread(target=work, args=(number,)) for number in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    tier.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
