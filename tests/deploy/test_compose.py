"""The compose file is one by the specification, and confines what it starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace_cache.opening import check_policy
from headrace_mounts.settings import Settings, load_settings
from tests.bench.peak_memory import AIM_BYTES
from tests.deploy.image import COMPOSE, ROOT, compose, last
from tests.deploy.sizes import bytes_of, bytes_of_tmpfs

SERVICES: dict[str, dict[str, Any]] = compose()["services"]


def tmpfs_bytes(service: dict[str, Any]) -> int:
    """What the writable places in memory may hold together, volumes of tmpfs included."""
    options = [entry.partition(":")[2] for entry in service["tmpfs"]]
    volumes = compose()["volumes"]
    for volume in service.get("volumes", []):
        held = volumes.get(volume.split(":")[0])
        if held is not None:
            options.append(held["driver_opts"]["o"])
    return sum(map(bytes_of_tmpfs, options))


def configured(service: dict[str, Any]) -> Settings:
    """What headrace reads in this container."""
    image = last("client", "ENV").pairs
    return load_settings(COMPOSE / "etc/headrace.toml", environ={**image, **service["environment"]})


def test_it_is_a_compose_file() -> None:
    done = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema"),
            *("vendor.compose-spec", str(COMPOSE / "compose.yaml")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged") and "ports" not in service
    assert service["ulimits"]["core"] == 0
    assert service["pids_limit"] <= 512
    assert all("size=" in entry for entry in service["tmpfs"])
    assert {compose()["networks"][network]["internal"] for network in service["networks"]} == {True}


@pytest.mark.parametrize("name", SERVICES)
def test_docker_and_podman_take_its_tmpfs(name: str) -> None:
    # Podman refuses an owner here, and Docker a `U`: whoever is not root writes by the mode alone.
    for entry in SERVICES[name]["tmpfs"]:
        options = dict(option.split("=") for option in entry.partition(":")[2].split(","))
        assert set(options) == {"size", "mode"}
        assert options["mode"] == "1777"


def test_docker_and_podman_take_the_volume_of_the_socket() -> None:
    door = compose()["volumes"]["door"]["driver_opts"]
    options = dict(option.split("=") for option in door["o"].split(","))
    # Podman before 4.8 refuses a `size`.
    assert set(options) == {"nr_blocks", "uid", "gid", "mode"}
    assert f"{options['uid']}:{options['gid']}" == SERVICES["node"]["user"]
    assert options["mode"] == "0700"


@pytest.mark.parametrize("name", SERVICES)
def test_no_memory_is_written_to_swap(name: str) -> None:
    assert SERVICES[name]["mem_limit"] == SERVICES[name]["memswap_limit"]


@pytest.mark.parametrize("name", ["node", "client"])
def test_memory_has_room_for_the_tier_the_process_and_the_tmpfs(name: str) -> None:
    service = SERVICES[name]
    needed = configured(service).cache.memory_bytes + AIM_BYTES + tmpfs_bytes(service)
    limit = bytes_of(service["mem_limit"])
    assert needed == limit if name == "node" else needed < limit


def test_node_and_client_mean_the_same() -> None:
    node, client = SERVICES["node"], SERVICES["client"]
    assert configured(node).node_fingerprint == configured(client).node_fingerprint
    elsewhere = {**client, "environment": {**client["environment"], "S3_KEY": "another"}}
    assert configured(node).node_fingerprint != configured(elsewhere).node_fingerprint
    shared = set(node["volumes"]) & set(client["volumes"])
    assert shared == {"./etc:/etc/headrace:ro", "door:/run/headrace"}
    assert configured(node).node.socket == Path("/run/headrace/node.sock")
    assert node["user"] == client["user"]


def test_what_the_node_writes_lies_on_volumes() -> None:
    cache = configured(SERVICES["node"]).cache
    mounted = {volume.split(":")[1] for volume in SERVICES["node"]["volumes"]}
    assert str(cache.folder) in mounted
    assert {str(cache.key_file.parent), str(cache.state_folder.parent)} == {"/var/lib/headrace"}
    assert "/var/lib/headrace" in mounted


def test_the_node_has_no_shared_memory_to_write_to() -> None:
    # Engines mount a /dev/shm for everybody to write to, into a read-only root too.
    assert SERVICES["node"]["ipc"] == "none"


def test_the_healthcheck_is_that_of_the_image() -> None:
    assert SERVICES["node"]["healthcheck"]["test"][1:] == last("node", "HEALTHCHECK").command


def test_images_are_named_by_a_version() -> None:
    for service in SERVICES.values():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])


def test_credentials_come_from_outside() -> None:
    for name in ("S3_KEY", "S3_SECRET"):
        assert re.fullmatch(r"\$\{\w+:\?.+\}", SERVICES["node"]["environment"][name])


def test_the_commands_are_told_alike_and_name_what_is_there() -> None:
    head = (COMPOSE / "compose.yaml").read_text().split("\nname:")[0]
    told = [line[4:].split("  #")[0].rstrip() for line in head.splitlines() if line[:4] == "#   "]
    assert "\n".join(["cd deploy/compose", *told]) in (ROOT / "docs/node.md").read_text()
    named = {line.split()[-1] for line in told if re.search(r"compose (?:up|run)", line)}
    assert named == {"node", "client"} <= set(SERVICES)


def test_the_policy_is_right() -> None:
    file = COMPOSE / "etc/policy.toml"
    assert check_policy(file.read_text(), str(file)) == (1, ("payroll",))
