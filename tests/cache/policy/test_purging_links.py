"""Whatever mounts and links lead to a file, or led there: what the policy forbids by a name of now
does not stay on the SSD. Random trees of real folders and links, random mounts and rules."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace_cache.limits import PolicySource
from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.errors import HeadraceError
from tests.effort import EFFORT
from tests.fakes.clock import ManualClock
from tests.fakes.local_cache import Rig, path, whole
from tests.fakes.page_tier import DictTier
from tests.fakes.watched_cache import OPEN, Watched, rule, write

FOLDERS = ("", "hr", "hr/x", "open")
FILES = tuple(f"{folder}/{name}".lstrip("/") for folder in FOLDERS for name in "ab")
LINKS = ("l0", "hr/l1", "open/l2")
POINTS = ("/m", "/n", "/m/q", "/m/hr", "/p/s")
PATTERNS = ("/m/hr/**", "/m/l0/**", "/m/hr/l1/**", "/m/*", "/n/**", "/p/**", "/**/hr/*")

ends = st.sampled_from((*FOLDERS, *LINKS, "hr/a", "open/b"))
links = st.dictionaries(st.sampled_from(LINKS), ends, max_size=3)
mounts = st.dictionaries(
    st.sampled_from(POINTS), st.tuples(ends, st.booleans()), min_size=1, max_size=4
)
rules = st.lists(st.sampled_from(PATTERNS), max_size=2)
#: The mounts and the rules of then, what is opened, and those of now.
changes = st.lists(st.tuples(mounts, rules, st.randoms(use_true_random=False)), min_size=2)


class Tree:
    """Folders and links on the disk, and a service over some mounts of them."""

    def __init__(self, linked: Mapping[str, str]) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="headrace-links-"))
        self.data = self.root / "data"
        for folder in FOLDERS:
            (self.data / folder).mkdir(exist_ok=True)
        for file in FILES:
            (self.data / file).write_bytes(file.encode() * 20)
            os.utime(self.data / file, (1, 1))
        for link, end in linked.items():
            (self.data / link).symlink_to(self.data / end)
        self.epoch = 0
        self.others: list[Rig] = []
        policy = self.root / "policy.toml"
        policy.write_text(OPEN)
        clock = ManualClock()
        self.rig = Watched({}, policy=PolicySource(OPEN, str(policy)), ssd=DictTier(), clock=clock)
        self.rig.file = policy

    def change(self, mounted: Mapping[str, tuple[str, bool]], patterns: list[str]) -> None:
        """Other mounts, and a policy of the next epoch."""
        self.epoch += 1
        text = OPEN.replace("epoch = 1", f"epoch = {self.epoch}")
        tagged = (
            '[[rule]]\nname = "eu"\nmatch.tag = ["pii=eu"]\napply.persistence = "memory-only"\n'
        )
        allowed = 'apply.guarantee = "unattested"\n'
        write(self.rig.file, text + tagged + allowed + "".join(map(rule, dict.fromkeys(patterns))))
        backends = {
            point: LocalBackend(str(self.data / end), self.rig.clock)
            for point, (end, _) in mounted.items()
        }
        tags = {point: ("pii=eu",) for point, (_, tagged) in mounted.items() if tagged}
        others = Rig(backends, tags_of=tags)
        self.rig.take_mounts_of(others)
        self.rig.settle_down()
        self.others.append(others)  # its stores are in use until the end

    def paths(self) -> Iterator[str]:
        """Every file by every mount, and by what a link in it may lead to."""
        for mount in self.rig.namespace.mounts:
            yield mount.path.text
            for below in (*FILES, *LINKS, *(f"{link}/{name}" for link in LINKS for name in "ab")):
                yield f"{mount.path}/{below}"

    def plain_paths(self) -> Iterator[str]:
        """Every file by every mount that reaches it without a link but in the mount's own URL: a
        link in the tree is a name of what it leads to for who asks by it alone."""
        for mount in self.rig.namespace.mounts:
            real = os.path.realpath(mount.url.removeprefix("file://"))
            for file in FILES:
                below = os.path.relpath(self.data / file, real)
                if not below.startswith(".."):
                    yield mount.path.text if below == "." else f"{mount.path}/{below}"

    def check(self) -> None:
        """Nothing lies on the SSD that a name of now forbids."""
        sealed = {page.version for page in self.rig.tier.pages}
        for text in self.plain_paths():
            resolved = self.rig.namespace.resolve(path(text))
            try:
                version = self.rig.namespace.stat(resolved).version
            except HeadraceError:
                continue  # another mount lies over it
            if version is not None and version.digest() in sealed:
                placement = self.rig.watch.now.decide(resolved.names)
                assert placement.allows_ssd, f"{text} is sealed: {resolved.names}"

    def close(self) -> None:
        for rig in (self.rig, *self.others):
            rig.service.close()
        shutil.rmtree(self.root)


@pytest.mark.timeout(0 if EFFORT > 1 else 180)
@settings(
    max_examples=40 * EFFORT,
    deadline=None,
    derandomize=EFFORT == 1,
    database=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
@given(links, changes)
def test_nothing_forbidden_stays_whatever_leads_to_it(
    linked: dict[str, str],
    changed: list[tuple[dict[str, tuple[str, bool]], list[str], random.Random]],
) -> None:
    tree = Tree(linked)
    try:
        for mounted, patterns, chance in changed:
            tree.change(mounted, patterns)
            tree.check()
            for text in tree.paths():
                if chance.random() < 0.5:
                    try:
                        whole(tree.rig.service.open(path(text)))
                    except HeadraceError:
                        continue
            tree.check()
    finally:
        tree.close()
