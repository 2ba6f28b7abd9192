"""The demo's tree: the two configurations that mount its silos, without and with a policy."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.demo.job import Places
from headrace.demo.silos import ACCESS_KEY, BUCKET, SECRET_KEY, Silos

RESTRICTED_PATH = "/bucket/restricted/planes.csv"
OPEN_PATH = "/bucket/fleet/planes.csv"

_TREE = """\
[[mount]]
path = "/bucket"
url = "s3://{bucket}"
[mount.options]
endpoint_url = "{endpoint}"
key_env = "HEADRACE_DEMO_KEY"
secret_env = "HEADRACE_DEMO_SECRET"

[[mount]]
path = "/folder"
url = "silo"

[cache]
folder = "cache"
memory = "256MiB"
ssd = "256MiB"
key_file = "keys/demo.key"
state_folder = "state"
"""

_WITH_POLICY = """
[policy]
file = "policy.toml"
"""

_POLICY = """\
version = 1
epoch = 1

[default]
persistence = "sealed-ssd"

[[rule]]
name = "restricted"
match.path = ["/bucket/restricted/**"]
apply.persistence = "memory-only"
apply.guarantee = "unattested"
"""


class Tree:
    """The configuration files of the demo, written into `folder`."""

    def __init__(self, folder: Path, silos: Silos) -> None:
        os.environ["HEADRACE_DEMO_KEY"] = ACCESS_KEY
        os.environ["HEADRACE_DEMO_SECRET"] = SECRET_KEY
        self.plain = folder / "headrace.toml"
        self.governed = folder / "headrace-with-policy.toml"
        #: Every folder in which headrace keeps anything on disk.
        self.kept = (folder / "cache", folder / "keys", folder / "state")
        self._silos = silos
        text = _TREE.format(bucket=BUCKET, endpoint=silos.endpoint_url)
        self.plain.write_text(text)
        self.governed.write_text(text + _WITH_POLICY)
        (folder / "policy.toml").write_text(_POLICY)

    def through_headrace(self, config: Path) -> Places:
        """The job's tables as paths of the tree."""
        options = {"config": str(config)}
        return Places(
            "headrace:///bucket/flights/",
            "headrace:///folder/airports.parquet",
            "headrace:///folder/weather.csv",
            options,
            options,
        )

    def direct(self) -> Places:
        """The same tables without headrace: s3fs for the bucket, plain files for the folder."""
        silos = self._silos
        return Places(
            f"s3://{BUCKET}/flights/",
            str(silos.folder / "airports.parquet"),
            str(silos.folder / "weather.csv"),
            silos.s3_options,
            None,
        )
