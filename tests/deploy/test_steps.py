"""What the containers do, done without a container engine: built, filled, served, read twice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.confined import Confined, ended, why_not
from tests.deploy.image import COMPOSE, Image, built, last
from tests.servers.ceph import RgwServer

#: Downloads and installs.
pytestmark = pytest.mark.timeout(600)

#: How to run a command of the image, in the service of this name.
Run = Callable[..., subprocess.Popen[str]]

#: Asked of the containers: who they are, and where they can write.
_PROBE = """
import os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(os.getuid(), os.getgid(), int(status["CapEff"], 16), int(status["NoNewPrivs"]))
for place, folders, _ in os.walk("/"):
    folders[:] = [name for name in folders if place != "/" or name not in ("proc", "usr")]
    try:
        open(os.path.join(place, "probe"), "x").close()
        os.unlink(os.path.join(place, "probe"))
        print(place)
        folders[:] = []
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return built(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def store(rgw: RgwServer, image: Image) -> dict[str, str]:
    """The variables of the compose file that are the site's own, and the bucket filled."""
    site = {
        "HEADRACE_S3": rgw.endpoint,
        "S3_KEY": rgw.access_key,
        "S3_SECRET": rgw.secret_key,
    }
    for _ in range(2):  # as by every `up`
        done = subprocess.run(
            [str(image.programs / "bin/python"), str(COMPOSE / "fill.py")],
            env=site,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
    return site


@dataclass(frozen=True, slots=True)
class Site:
    """Where the services run: `run(service, command, ...)`, and how the node is ended."""

    run: Run
    end: Callable[[subprocess.Popen[str]], int]

    def said(self, service: str, *command: str) -> str:
        """What a command prints."""
        process = self.run(service, *command)
        out, error = process.communicate(timeout=120)
        assert (process.returncode, error) == (0, ""), error
        return out

    def started_node(self) -> subprocess.Popen[str]:
        """The node, ready to serve."""
        process = self.run(
            "node", *last("node", "ENTRYPOINT").command, *last("node", "CMD").command
        )
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "node: serving at" in line, line + process.stderr.read()
        return process

    @contextmanager
    def node(self) -> Generator[None]:
        """The node, until it is ended in order."""
        process = self.started_node()
        assert process.stderr is not None
        try:
            yield
        finally:
            code = self.end(process)
            rest = process.stderr.read()
            process.stderr.close()
            if process.stdout is not None:
                process.stdout.close()
        assert (code, rest) == (0, "headrace: node: ending\n")


def started(command: list[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def plain(image: Image, store: dict[str, str], tmp_path: Path) -> Site:
    """The image's programs as this user, its folders somewhere else."""
    places = {"/etc/headrace": str(COMPOSE / "etc"), "/jobs": str(COMPOSE)}
    for place in ("/run/headrace", "/var/cache", "/var/lib"):
        (tmp_path / place[1:]).mkdir(parents=True)
        places[place] = str(tmp_path / place[1:])

    def run(service: str, *command: str) -> subprocess.Popen[str]:
        env = {
            name: image.here(value, places) for name, value in last(service, "ENV").pairs.items()
        }
        return started([image.here(part, places) for part in command], {**env, **store})

    def end(process: subprocess.Popen[str]) -> int:
        process.terminate()
        return process.wait(60)

    return Site(run, end)


@pytest.fixture
def confined(image: Image, store: dict[str, str]) -> Iterator[Site]:
    """The services of the compose file, each in a root of its own."""
    if reason := why_not():
        pytest.skip(f"no root of one's own here: {reason}")
    with tempfile.TemporaryDirectory(prefix="headrace-volumes-") as volumes:

        def run(service: str, *command: str) -> subprocess.Popen[str]:
            made = Confined(service, image, Path(volumes)).command(*command, **store)
            return started(made, {"PATH": os.environ["PATH"]})

        yield Site(run, ended)


def read_twice(site: Site) -> None:
    """The two runs of the client that compose.yaml shows, and what its comment says of them."""
    job = (*last("client", "ENTRYPOINT").command, "/jobs/job.py")
    fetched = [
        [int(count) for count in re.findall(r"fetched (\d+) bytes", site.said("client", *job))]
        for _ in range(2)
    ]
    (first, second), other = fetched
    assert first > 4_000_000 and second == 0
    assert other == [0, 0]


def healthy(site: Site) -> bool:
    """What the engine asks of the node."""
    process = site.run("node", *last("node", "HEALTHCHECK").command)
    process.communicate(timeout=60)
    return process.returncode == 0


def test_the_steps_work_in_a_plain_environment(plain: Site) -> None:
    assert not healthy(plain)
    with plain.node():
        assert healthy(plain)
        read_twice(plain)


def test_the_node_serves_from_a_root_that_nobody_can_write_to(confined: Site) -> None:
    with confined.node():
        assert healthy(confined)
        read_twice(confined)
    killed = confined.started_node()
    assert ended(killed, signal.SIGKILL) != 0
    killed.communicate()
    # In place of one that left its socket, it begins with what its volume holds.
    with confined.node():
        out = confined.said("client", *last("client", "ENTRYPOINT").command, "/jobs/job.py")
        assert out.count("fetched 0 bytes") == 2


@pytest.mark.parametrize(
    ("service", "writable"),
    [
        ("node", ["/run/headrace", "/tmp", "/var/cache/headrace", "/var/lib/headrace"]),
        ("client", ["/run/headrace", "/tmp"]),
    ],
)
def test_nothing_can_be_written_but_what_is_said(
    confined: Site, service: str, writable: list[str]
) -> None:
    who, *places = confined.said(service, "/opt/headrace/bin/python", "-c", _PROBE).splitlines()
    assert who == "10001 10001 0 1"
    assert sorted(places) == writable


def test_a_client_without_a_node_reads_all_the_same(confined: Site) -> None:
    process = confined.run("client", *last("client", "ENTRYPOINT").command, "/jobs/job.py")
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "the SSD tier in /var/cache/headrace is off" in error
    assert [int(count) > 0 for count in re.findall(r"fetched (\d+)", out)] == [True, False]
