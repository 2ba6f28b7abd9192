"""A service of the compose file as a container engine would confine it, by util-linux alone.

It has a root of its own that is read-only, process numbers of its own, the user, capabilities,
limits, volumes and tmpfs that the compose file says, and the environment that the image has. What
it lacks of a container is the memory limit, the system call filter, and a network of its own.
"""

from __future__ import annotations

import functools
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.deploy.image import COMPOSE, Image, compose, last

_UNSHARE = ("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--")
_DEVICES = ("null", "zero", "urandom")


@functools.cache
def why_not() -> str:
    """Why this machine does not let us make such a root; empty where it does."""
    try:
        done = subprocess.run(
            [*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True
        )
        subprocess.run(["setpriv", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


class Confined:
    """One service; each call of `command` gives it another root, and the same volumes."""

    def __init__(self, service: str, image: Image, volumes: Path) -> None:
        self._service: dict[str, Any] = compose()["services"][service]
        self._stage = service
        self._image = image
        self._volumes = volumes

    def command(self, *command: str, **environ: str) -> list[str]:
        """How to run a command of the image in it; `environ` is in place of the compose file's."""
        uid, gid = self._service["user"].split(":")
        ulimits = self._service["ulimits"]
        # An engine may raise it; who runs the tests perhaps not.
        files = min(ulimits["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        limits = [f"--core={ulimits['core']}", f"--nofile={files}"]
        inside = [
            *("prlimit", *limits, "--", "setpriv", "--reuid", uid, "--regid", gid),
            *("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"),
            *("/usr/bin/env", "--ignore-environment"),
            *(f"{name}={value}" for name, value in self._environment(environ).items()),
            *command,
        ]
        script = [*self._made_root(), f"exec chroot {self._root} {shlex.join(inside)}"]
        return [*_UNSHARE, "sh", "-euc", "\n".join(script)]

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        image = last(self._stage, "ENV").pairs
        return {**image, **self._service["environment"], **environ, "HOME": image["XDG_STATE_HOME"]}

    @property
    def _root(self) -> Path:
        root = self._volumes / "root"
        root.mkdir(exist_ok=True)
        return root

    def _made_root(self) -> list[str]:
        root = self._root
        script = ["mount --make-rprivate /", f"mount -t tmpfs -o mode=0755 root {root}"]
        for place in map(Path, ("/usr", "/bin", "/lib", "/lib64", "/sbin")):
            if place.is_symlink():
                script.append(f"ln -s {os.readlink(place)} {root}{place}")
            elif place.exists():
                script += _bound(root, place, str(place), "ro")
        # The Python that the environment was made with.
        if not sys.base_prefix.startswith("/usr"):
            script += _bound(root, Path(sys.base_prefix), sys.base_prefix, "ro")
        script += _bound(root, self._image.programs, "/opt/headrace", "ro")
        script += [f"mkdir {root}/proc {root}/dev", f"mount -t proc proc {root}/proc"]
        for device in _DEVICES:
            script.append(f"touch {root}/dev/{device}")
            script.append(f"mount --bind /dev/{device} {root}/dev/{device}")
        for entry in self._service["tmpfs"]:
            place, _, options = entry.partition(":")
            script.append(f"mkdir -p {root}{place}")
            script.append(f"mount -t tmpfs -o {options} tmpfs {root}{place}")
        for volume in self._service["volumes"]:
            source, place, *mode = volume.split(":")
            found = COMPOSE / source if source.startswith(".") else self._volume(source)
            script += _bound(root, found, place, *mode)
        # And where the first lines of its scripts look for it, which a tmpfs may lie over.
        script += _bound(root, self._image.programs, str(self._image.programs), "ro")
        return [*script, f"mount -o remount,ro {root}"]

    def _volume(self, name: str) -> Path:
        """A new volume is the user's alone, as the image and the compose file make it."""
        folder = self._volumes / name
        if not folder.exists():
            folder.mkdir(mode=0o700)
            uid, gid = self._service["user"].split(":")
            os.chown(folder, int(uid), int(gid))
        return folder


def _bound(root: Path, source: Path, place: str, mode: str = "rw") -> list[str]:
    make = "mkdir -p" if source.is_dir() else f"mkdir -p {root}{Path(place).parent} && touch"
    return [
        f"{make} {root}{place}",
        f"mount --bind {source} {root}{place}",
        *([f"mount -o remount,bind,ro {root}{place}"] if mode == "ro" else []),
    ]


def ended(process: subprocess.Popen[str], number: signal.Signals | None = None) -> int:
    """End what a `Confined` command runs, as an engine does: by a signal to its first process,
    the image's own unless another is given."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), number or getattr(signal, last("node", "STOPSIGNAL").text))
    return process.wait(60)
