"""The units are what systemd takes, and what docs/node.md says of them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "deploy/systemd"


def unit(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string((UNITS / name).read_text())
    return found


def test_the_node_tells_systemd_what_the_unit_waits_for() -> None:
    service = unit("headrace-node.service")["Service"]
    assert (service["Type"], service["ExecStart"].split()[-1]) == ("notify", "node")
    assert int(service["WatchdogSec"]) > 1
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"  # docs/node.md, Renewing
    assert "ListenSequentialPacket" in unit("headrace-node.socket")["Socket"]


def test_nothing_of_memory_reaches_a_disk_by_systemd() -> None:
    service = unit("headrace-node.service")["Service"]
    assert (service["LimitCORE"], service["MemorySwapMax"]) == ("0", "0")
    assert service["ProtectSystem"] == "strict" and service["NoNewPrivileges"] == "yes"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = tmp_path / "headrace"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for source in UNITS.iterdir():
        text = source.read_text().replace("/opt/headrace/bin/headrace", str(program))
        # Who verifies may have no such user.
        text = text.replace("User=headrace", "User=root")
        (tmp_path / source.name).write_text(text)
    names = [str(tmp_path / source.name) for source in UNITS.iterdir()]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True
    )
    ours = [line for line in verified.stderr.splitlines() if "headrace-node" in line]
    assert (verified.returncode, ours) == (0, []), verified.stderr
