"""A folder of files under a tree with a policy, and the command line run over it as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONFIG = """\
[[mount]]
path = "/data"
url = "data"
[[mount]]
path = "/gov"
url = "gov"
[cache]
folder = "cache"
key_file = "key"
state_folder = "state"
memory = "16MiB"
ssd = "64MiB"
[policy]
file = "policy.toml"
"""
POLICY = """\
version = 1
epoch = 1
[default]
persistence = "sealed-ssd"
[[rule]]
name = "denied"
match.path = ["/gov/denied/**"]
apply.persistence = "deny"
[[rule]]
name = "payroll"
match.path = ["/gov/hr/**"]
apply.persistence = "memory-only"
apply.metadata = "memory-only"
apply.guarantee = "unattested"
"""


@dataclass(frozen=True)
class Site:
    """One configuration with its files; every command is a process of its own."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict[str, str])

    def write(self, name: str, data: bytes = b"x") -> Path:
        """A file of the store; what the policy restricts lies in a store of its own."""
        governed = name.startswith(("hr/", "denied/"))
        file = self.root / ("gov" if governed else "data") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def command(self, *arguments: str) -> list[str]:
        """The words of a command."""
        config = str(self.root / "headrace.toml")
        return [sys.executable, "-m", "headrace", "--config", config, *arguments]

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        home = str(self.root / "home")
        return {"PATH": os.environ["PATH"], "HOME": home, **self.environ}

    def run(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            input=given,
            capture_output=True,
            cwd=self.root,
            env=self.env,
            check=False,
        )

    def out(self, *arguments: str, given: bytes = b"") -> str:
        """What a command prints that ends well and says nothing else."""
        done = self.run(*arguments, given=given)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one document that a command prints."""
        (document,) = self.lines(*arguments, code=code)
        return document

    def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        """The documents that a command prints, one a line."""
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stderr
        assert code or not done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def make_site(root: Path) -> Site:
    """A site with empty stores."""
    (root / "data").mkdir()
    (root / "gov").mkdir()
    (root / "headrace.toml").write_text(CONFIG)
    (root / "policy.toml").write_text(POLICY)
    return Site(root)
