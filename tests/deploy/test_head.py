"""What the Containerfile tells at its head runs the node as the compose file does."""

from __future__ import annotations

from headrace_mounts.settings import DEFAULT_MEMORY_BYTES
from tests.bench.peak_memory import AIM_BYTES
from tests.deploy.head import told
from tests.deploy.image import compose
from tests.deploy.sizes import bytes_of, bytes_of_tmpfs

NODE = compose()["services"]["node"]
(RUN,) = told("podman", "run")
(DOOR,) = told("podman", "volume", "create")


def test_it_is_confined_alike() -> None:
    assert NODE["read_only"] and "--read-only" in RUN.words
    assert RUN.values("--cap-drop") == NODE["cap_drop"]
    assert [f"{option}:true" for option in RUN.values("--security-opt")] == NODE["security_opt"]
    assert RUN.values("--ipc") == [NODE["ipc"]]
    assert RUN.values("--pids-limit") == [str(NODE["pids_limit"])]
    assert set(RUN.values("--ulimit")) == {
        f"{name}={limit}" for name, limit in NODE["ulimits"].items()
    }
    assert [f"{seconds}s" for seconds in RUN.values("--stop-timeout")] == [
        NODE["stop_grace_period"]
    ]


def test_it_can_write_where_the_compose_file_says_and_nowhere_else() -> None:
    # Podman makes /run and /var/tmp writable in a read-only root.
    assert RUN.values("--read-only-tmpfs") == ["false"]
    assert RUN.values("--tmpfs") == NODE["tmpfs"]
    places = {volume.split(":", 1)[1] for volume in RUN.values("--volume")}
    assert places == {volume.split(":", 1)[1] for volume in NODE["volumes"]}


def test_jobs_can_share_its_socket() -> None:
    assert f"{DOOR.last}:/run/headrace" in RUN.values("--volume")
    options = dict(option.split("=", 1) for option in DOOR.values("--opt"))
    assert options == compose()["volumes"]["door"]["driver_opts"]


def test_memory_has_room_for_the_tier_the_process_and_the_tmpfs() -> None:
    (limit,) = RUN.values("--memory")
    tmpfs = [entry.partition(":")[2] for entry in RUN.values("--tmpfs")]
    tmpfs += [option[2:] for option in DOOR.values("--opt") if option.startswith("o=")]
    room = DEFAULT_MEMORY_BYTES + AIM_BYTES + sum(map(bytes_of_tmpfs, tmpfs))
    assert bytes_of(limit) == room
    assert RUN.values("--memory-swap") == [limit]


def test_it_builds_the_image_that_it_runs_and_keeps_its_healthcheck() -> None:
    (build,) = [command for command in told("podman", "build") if not command.values("--target")]
    assert build.values("--tag") == [RUN.last]
    assert build.values("--format") == ["docker"]
