"""Podman, where it is, takes the options of the Containerfile's head and of the compose file.

An image with nothing in it is enough for that: containers are made of it, and none is started.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests.deploy.head import told
from tests.deploy.image import COMPOSE, compose

#: Runs podman with these words, and gives what it prints. Fails the test where podman refuses.
Podman = Callable[..., str]

IMAGE = "localhost/headrace-nothing"


@pytest.fixture
def podman() -> Iterator[Podman]:
    """With a storage of its own, which goes when the test ends."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not here")
    # Not in `tmp_path`: Podman takes no long names here.
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        own = [
            "--root",
            f"{folder}/root",
            "--runroot",
            f"{folder}/run",
            "--tmpdir",
            f"{folder}/tmp",
        ]
        own += ["--storage-driver=vfs", "--cgroup-manager=cgroupfs"]

        def tried(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                ["podman", *own, *words], input=given, capture_output=True, cwd=COMPOSE, check=False
            )

        def run(*words: str) -> str:
            done = tried(*words)
            assert done.returncode == 0, done.stderr.decode()
            return done.stdout.decode()

        nothing = io.BytesIO()
        tarfile.open(fileobj=nothing, mode="w").close()
        imported = tried("import", "--quiet", "-", IMAGE, given=nothing.getvalue())
        if imported.returncode != 0:
            pytest.skip(f"podman cannot run here: {imported.stderr.decode()}")
        yield run
        tried("rm", "--all", "--force")
        tried("volume", "rm", "--all", "--force")
        tried("rmi", "--all", "--force")


def test_it_takes_what_the_head_tells(podman: Podman) -> None:
    (volume,), (run,) = told("podman", "volume", "create"), told("podman", "run")
    podman(*volume.words[1:])
    podman("create", "--name=node", "--network=none", *run.words[2:-1], IMAGE, "true")
    assert podman("inspect", "--format={{.HostConfig.ReadonlyRootfs}}", "node").strip() == "true"


def test_it_takes_what_the_compose_file_asks(podman: Podman) -> None:
    for name, volume in compose()["volumes"].items():
        opts: dict[str, str] = volume["driver_opts"] if volume else {}
        podman("volume", "create", *(f"--opt={key}={value}" for key, value in opts.items()), name)
    for name, service in compose()["services"].items():
        words = [f"--ipc={service['ipc']}"] if "ipc" in service else []
        words += [f"--user={service['user']}", f"--pids-limit={service['pids_limit']}"]
        words += [f"--tmpfs={entry}" for entry in service["tmpfs"]]
        words += [f"--volume={entry}" for entry in service.get("volumes", [])]
        words += [f"--security-opt={entry}" for entry in service["security_opt"]]
        words += [f"--ulimit={limit}={number}" for limit, number in service["ulimits"].items()]
        words += [f"--memory={service['mem_limit']}", f"--memory-swap={service['memswap_limit']}"]
        podman("create", f"--name={name}", "--network=none", "--read-only", *words, IMAGE, "true")
