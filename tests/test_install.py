"""The wheel, installed alone into an empty environment outside of the tree, works."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Downloads and builds; the test's own time-out ends the rest.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with nothing but headrace and its extra `s3`."""

    folder: Path

    def run(self, *command: str, work: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in `work`, with no way back into this tree."""
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=work,
            env={"PATH": "/usr/bin:/bin", "HOME": str(work)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    wheels = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(wheels), str(ROOT)], check=True)
    (wheel,) = wheels.glob("headrace-*.whl")
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=True)
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, f"headrace[s3] @ {wheel.as_uri()}"], check=True)
    return Installed(folder)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.txt").write_text("hello")
    (tmp_path / "headrace.toml").write_text('[[mount]]\npath = "/d"\nurl = "data"\n')
    return tmp_path


def test_fsspec_finds_headrace_by_its_url(installed: Installed, site: Path) -> None:
    program = (
        "import fsspec\n"
        "with fsspec.open('headrace:///d/a.txt', config='headrace.toml') as file:\n"
        "    print(file.read())\n"
    )
    done = installed.run("python", "-c", program, work=site)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'hello'\n", "")


def test_the_command_and_the_types_are_there(installed: Installed, site: Path) -> None:
    done = installed.run("headrace", "--config", "headrace.toml", "cat", "/d/a.txt", work=site)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")
    for package in ("headrace", "headrace_mounts", "headrace_cache", "headrace_namespace"):
        assert list(installed.folder.glob(f"lib/python*/site-packages/{package}/py.typed"))


def test_an_s3_mount_opens_with_its_extra_alone(installed: Installed, site: Path) -> None:
    config = '[[mount]]\npath = "/s"\nurl = "s3://bucket"\n'
    (site / "s3.toml").write_text(config)
    done = installed.run("headrace", "--config", "s3.toml", "mounts", work=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3://bucket" in done.stdout


def test_the_demo_says_what_it_lacks(installed: Installed, site: Path) -> None:
    done = installed.run("headrace", "demo", work=site)
    assert done.returncode == 2
    assert "pandas" in done.stderr
    assert "pip install 'headrace[demo]'" in done.stderr
