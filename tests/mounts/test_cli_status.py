"""`status` says whose cache has answered: a node's and which, or one of its own and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace_cache.node.daemon import Node
from headrace_mounts.connect import open_node
from tests.mounts.command_line import Site, make_site
from tests.mounts.test_cli_schemas import running_node

HTTP = '[node.http]\nlisten = "127.0.0.1:0"\ntls = false\nauthentication = false\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


@pytest.fixture
def door(site: Site) -> Iterator[Node]:
    file = site.root / "headrace.toml"
    file.write_text(file.read_text() + HTTP)
    with closing(open_node(file)) as node:
        yield node


def answered_by(site: Site, *options: str) -> str:
    (line,) = (
        line for line in site.out(*options, "status").splitlines() if line.startswith("answered by")
    )
    return line.removeprefix("answered by").strip()


def test_the_node_of_this_host_is_named(site: Site) -> None:
    socket = site.root / "state/node.sock"
    with running_node(site) as process:
        assert site.json("status")["node"] == {"address": str(socket), "process": process}
        assert answered_by(site) == f"the node at {socket}, process {process}"


def test_without_a_node_it_says_why(site: Site) -> None:
    socket = site.root / "state/node.sock"
    assert site.json("status")["node"] is None
    assert answered_by(site) == f"a cache of this process: no node listens at {socket}"
    file = site.root / "headrace.toml"
    with running_node(site):
        file.write_text(file.read_text().replace("16MiB", "32MiB"))
        assert site.json("status")["node"] is None
        said = answered_by(site)
    assert said.startswith("a cache of this process: the node")
    assert "serves another configuration" in said


def test_the_node_of_another_host_is_named_by_its_url(site: Site, door: Node) -> None:
    assert door.door is not None
    node = f"127.0.0.1:{door.door.port}"
    (site.root / "job.toml").write_text(f'[[remote]]\naddress = "{node}"\ntls = false\n')
    job = ("--config", str(site.root / "job.toml"), "--node", node)
    url = f"http://{node}"
    told = json.loads(site.out(*job, "status", "--json"))
    assert told["node"] == {"address": url, "process": None}
    assert answered_by(site, *job) == f"the node at {url}"
