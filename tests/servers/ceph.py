"""A private Ceph with its S3 gateway (RGW) on loopback: one monitor, one OSD in memory.

The servers are children of a small guard process, which lives exactly as long as a pipe to the one
who asked for them: however that one ends, the guard stops the servers and removes their folder.
The guard is this file run as a program; `install.sh` brings the binaries. Works as any user.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
import uuid
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass
from pathlib import Path

#: One start takes 8 s on two idle cores.
START_SECONDS = 120.0
STOP_SECONDS = 10.0
#: Somebody else may take a port between its choice and its use.
PORT_TRIES = 5
POLL_SECONDS = 0.05
#: A Unix socket's path has at most 107 bytes; the longest name in the folder is `mon.asok`.
LONGEST_FOLDER = 95

ACCESS_KEY = "HEADRACETESTKEY"
SECRET_KEY = "headrace-test-secret/with+signs="


@dataclass(frozen=True, slots=True)
class RgwServer:
    """A running S3 gateway and the credentials of its one user."""

    endpoint: str
    access_key: str
    secret_key: str


@contextlib.contextmanager
def rgw(folder: Path) -> Generator[RgwServer]:
    """An S3 gateway whose whole state is in `folder`, which is made here and removed at the end.

    Raises RuntimeError with the end of the servers' logs where it does not come up.
    """
    guard = subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C must reach the tests, and the guard only through them.
        start_new_session=True,
    )
    assert guard.stdin is not None and guard.stdout is not None
    try:
        answer = guard.stdout.readline()
        if not answer:
            raise RuntimeError("the guard of the Ceph servers ended without an answer")
        told = json.loads(answer)
        if "error" in told:
            raise RuntimeError(told["error"])
        yield RgwServer(**told)
    finally:
        guard.stdin.close()
        guard.stdout.close()
        guard.wait(START_SECONDS)


class _PortTaken(Exception):
    """A server ended at its start, as it does when somebody took its port."""


class _Ceph:
    """The servers, in the order of their start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deadline = time.monotonic() + START_SECONDS
        self._running: list[subprocess.Popen[bytes]] = []
        self._conf = folder / "ceph.conf"

    def start(self) -> RgwServer:
        """Start all, each as soon as the one before is ready."""
        self._with_free_ports(self._start_mon)
        self._start_osd()
        self._tool(
            *("radosgw-admin", "user", "create", "--uid=test", "--display-name=test"),
            *(f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"),
        )
        port = self._with_free_ports(self._start_rgw)
        return RgwServer(f"http://127.0.0.1:{port}", ACCESS_KEY, SECRET_KEY)

    def stop(self) -> None:
        """Stop all, the last started first, by force where they do not go."""
        for server in reversed(self._running):
            # Nothing is kept, so there is nothing to write down in an orderly way.
            server.kill()
        for server in self._running:
            server.wait(STOP_SECONDS)
        self._running.clear()

    def log_ends(self) -> str:
        """The last lines that each server wrote."""
        ends: list[str] = []
        for log in sorted(self._folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-8:]
            ends.append("\n".join([f"--- {log.name}", *lines]))
        return "\n".join(ends)

    def _with_free_ports(self, start: Callable[[int, int], None]) -> int:
        for _ in range(PORT_TRIES):
            first, second = _free_ports()
            try:
                start(first, second)
            except _PortTaken:
                continue
            return first
        raise RuntimeError(f"a server did not start with any of {PORT_TRIES} pairs of ports")

    def _start_mon(self, v2_port: int, v1_port: int) -> None:
        folder, fsid = self._folder, str(uuid.uuid4())
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir(parents=True)
        address = f"[v2:127.0.0.1:{v2_port},v1:127.0.0.1:{v1_port}]"
        self._conf.write_text(_CONF.format(folder=folder, fsid=fsid, address=address))
        keyring = str(folder / "keyring")
        everything = (
            "--cap",
            "mon",
            "allow *",
            "--cap",
            "osd",
            "allow *",
            "--cap",
            "mgr",
            "allow *",
        )
        create: tuple[str, ...] = ("--create-keyring",)
        for name in ("mon.", "client.admin", "client.rgw", "osd.0"):
            self._tool("ceph-authtool", *create, keyring, "--gen-key", "-n", name, *everything)
            create = ()
        monmap = str(folder / "monmap")
        add = ("--addv", "a", address)
        self._tool("monmaptool", "--create", "--clobber", "--fsid", fsid, *add, monmap)
        self._tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        mon = self._serve("mon", "ceph-mon", "-f", "-i", "a")
        self._wait_for(mon, lambda: self._admin("mon", "mon_status").get("state") == "leader")

    def _start_osd(self) -> None:
        fsid = str(uuid.uuid4())
        self._tool("ceph", "--connect-timeout", "20", "osd", "create", fsid, "0")
        self._tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", fsid)
        osd = self._serve("osd", "ceph-osd", "-f", "-i", "0")
        self._wait_for(osd, lambda: self._admin("osd", "status").get("state") == "active")

    def _start_rgw(self, port: int, _: int) -> None:
        # Without tcp_nodelay a small answer waits 44 ms for an acknowledgement.
        frontend = f"beast endpoint=127.0.0.1:{port} tcp_nodelay=1"
        server = self._serve(
            "rgw", "radosgw", "-f", "-n", "client.rgw", "--rgw-frontends", frontend
        )
        self._wait_for(server, lambda: _answers(port))

    def _serve(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            server = subprocess.Popen(
                # Should the guard itself be killed, the kernel ends the server.
                ["setpriv", "--pdeathsig", "KILL", *command, "-c", str(self._conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
            )
        self._running.append(server)
        return server

    def _tool(self, *command: str) -> None:
        try:
            done = subprocess.run(
                [*command, "-c", str(self._conf)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=max(1.0, self._deadline - time.monotonic()),
                env=_environment(),
            )
        except FileNotFoundError:
            raise RuntimeError(
                f"{command[0]} is not installed: run tests/servers/install.sh"
            ) from None
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")

    def _wait_for(self, server: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        while not ready():
            if server.poll() is not None:
                self._running.remove(server)
                raise _PortTaken
            if time.monotonic() > self._deadline:
                raise RuntimeError(f"the servers were not up after {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _admin(self, name: str, command: str) -> dict[str, object]:
        """Ask a server by its admin socket; empty where it does not answer yet."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            try:
                admin.connect(str(self._folder / f"{name}.asok"))
                admin.sendall(json.dumps({"prefix": command, "format": "json"}).encode() + b"\0")
                with admin.makefile("rb") as answers:
                    length = int.from_bytes(answers.read(4), "big")
                    return dict(json.loads(answers.read(length)))
            except (OSError, ValueError):
                return {}


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _environment() -> dict[str, str]:
    """Only what the servers need: the tests' Python paths would mislead Ceph's own tools."""
    return {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


_CONF = """\
[global]
fsid = {fsid}
mon host = {address}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
run dir = {folder}
crash dir = {folder}/crash
keyring = {folder}/keyring
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
log file =
log to stderr = true
auth allow insecure global id reclaim = false
mon warn on pool no redundancy = false
# The tests' disk may be nearly full; what is kept here is small.
mon data avail warn = 1
mon data avail crit = 0
mon max pg per osd = 2000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 6442450944
osd memory target = 1073741824
rgw enable usage log = false
rgw dynamic resharding = false
rgw override bucket index max shards = 4
debug ms = 0
debug rgw = 0
[mon]
admin socket = {folder}/mon.asok
[osd]
admin socket = {folder}/osd.asok
[client]
admin socket =
"""


def _guard(folder: Path) -> None:
    """Start the servers, tell how to reach them, and stop them when standard input ends."""

    def end(number: int, frame: types.FrameType | None) -> None:
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        print(json.dumps({"error": f"{folder} is too long a path for a Unix socket"}), flush=True)
        return
    ceph = _Ceph(folder)
    try:
        try:
            told: dict[str, str] = asdict(ceph.start())
        except (RuntimeError, subprocess.SubprocessError) as error:
            told = {"error": f"{error}\n{ceph.log_ends()}"}
        print(json.dumps(told), flush=True)
        if "error" not in told:
            sys.stdin.buffer.read()
    finally:
        ceph.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]).absolute())
