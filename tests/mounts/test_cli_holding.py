"""`drop`, `pin`, `unpin`, `why` and `status` as scripts see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.mounts.command_line import Site, make_site

BIG = 2 << 20


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make_site(tmp_path)
    for name in ("a.bin", "d/b.bin", "d/c.bin"):
        site.write(name, os.urandom(BIG))
    return site


def test_drop_forgets_for_all_processes(site: Site) -> None:
    site.json("warm", "/data")
    said = site.json("drop", "/data/d")
    assert (said["objects"], said["bytes"], said["failed"]) == (2, 2 * BIG, [])
    assert site.json("why", "/data/d/b.bin")["extents"] == []
    assert site.json("warm", "/data")["bytes_fetched"] == 2 * BIG
    assert site.json("drop", "/data/a.bin")["objects"] == 1
    assert site.json("drop", "/data/a.bin") == {"objects": 0, "bytes": 0, "failed": []}


def test_pin_lasts_until_unpin(site: Site) -> None:
    assert site.json("pin", "/data/d")["bytes"] == 2 * BIG
    assert site.json("why", "/data/d/b.bin")["pinned"] is True
    assert site.json("why", "/data/a.bin")["pinned"] is False
    assert site.json("unpin", "/data")["objects"] == 2
    assert site.json("why", "/data/d/b.bin")["pinned"] is False


def test_pin_says_what_it_cannot_keep(site: Site) -> None:
    site.write("hr/pay.csv")
    refused = site.run("pin", "/gov/hr/pay.csv")
    assert refused.returncode == 3
    assert b"may not lie on the SSD" in refused.stderr
    site.write("huge", bytes(40 << 20))
    full = site.run("pin", "/data/huge")
    assert full.returncode == 1
    assert b"no room" in full.stderr


def test_why_shows_rules_and_what_is_held(site: Site) -> None:
    nothing = site.json("why", "/data/a.bin")
    assert set(nothing) == {"path", "version", "rule", "placement", "pinned", "extents", "purges"}
    assert (nothing["extents"], nothing["pinned"]) == ([], False)
    site.json("warm", "/data/a.bin")
    (extent,) = site.json("why", "/data/a.bin")["extents"]
    assert set(extent) == {"offset", "length", "tier", "fetched_at", "source"}
    assert (extent["offset"], extent["length"], extent["tier"]) == (0, BIG, "ssd")
    site.write("hr/pay.csv")
    os.symlink("hr/pay.csv", site.root / "gov/link.csv")
    through = site.json("why", "/gov/link.csv")
    assert through["placement"]["persistence"] == "memory-only"
    (rule,) = [rule for rule in through["rule"] if rule["name"] == "payroll"]
    assert "through the other name /gov/hr/pay.csv" in rule["why"]
    shown = site.out("why", "/data/a.bin")
    assert "ssd" in shown and "default" in shown


@pytest.mark.parametrize(
    ("path", "code"), [("/data/none", 4), ("/gov/denied/x", 3), ("/data/d", 1)]
)
def test_why_of_what_cannot_be_asked(site: Site, path: str, code: int) -> None:
    site.write("denied/x")
    assert site.run("why", path).returncode == code


def test_status_counts_all_processes(site: Site) -> None:
    before = site.json("status")
    assert (before["hits"], before["hit_ratio"]) == (0, None)
    assert site.run("cat", "/data/a.bin").returncode == 0
    assert site.run("cat", "/data/a.bin").returncode == 0
    now = site.json("status")
    assert now["bytes_fetched"] == BIG
    assert now["bytes_served"] == 2 * BIG
    assert now["bytes_saved"] == BIG
    assert now["requests"]["/data"]["read"] >= 1
    assert now["process"]["bytes_served"] == 0
    assert now["since"] is not None
    shown = site.out("status")
    assert "#" in shown and "saved" in shown
