"""One socket file, one node: also where several start at once, or one ends late."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from headrace_cache.node.own_socket import OwnSocket
from headrace_cache.wire.channel import connected
from headrace_mounts.connect import open_node
from headrace_mounts.settings import load_settings
from headrace_namespace.errors import ConfigError
from tests.cache.node.conftest import World


def dead_socket(place: Path) -> None:
    """What a node leaves that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(place))


def test_of_many_that_start_at_once_one_takes_the_dead_ones_place(tmp_path: Path) -> None:
    place = tmp_path / "s"
    for _ in range(20):
        dead_socket(place)
        together, taken = threading.Barrier(8), list[OwnSocket]()

        def start(together: threading.Barrier = together, taken: list[OwnSocket] = taken) -> None:
            together.wait()
            with suppress(FileExistsError):
                taken.append(OwnSocket(place, 8, everybody=False))

        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (own,) = taken
        connected(place, 10).close()
        own.let_go()
        own.listener.close()
        assert not place.exists()


def test_what_another_has_put_in_its_place_stays(tmp_path: Path) -> None:
    place = tmp_path / "s"
    first = OwnSocket(place, 8, everybody=False)
    place.unlink()
    (tmp_path / "s.lock").unlink()  # somebody cleared the folder
    second = OwnSocket(place, 8, everybody=False)
    first.let_go()
    connected(place, 10).close()
    second.let_go()
    assert not place.exists()
    for own in (first, second):
        own.listener.close()


def test_a_file_that_is_no_socket_is_not_removed(world: World) -> None:
    place = load_settings(world.file).node.socket
    place.parent.mkdir(exist_ok=True)
    place.write_text("somebody's")
    with pytest.raises(ConfigError, match="is no socket"):
        open_node(world.file)
    assert place.read_text() == "somebody's"
    assert not place.with_name(place.name + ".lock").exists()


@pytest.mark.parametrize(
    ("socket", "said"),
    [
        ("missing/node.sock", "No such file or directory"),
        ("data", "is no socket"),
        ("headrace.toml/node.sock", "Not a directory"),
        ("s" * 100, r"own name is too long: it may have \d\d bytes"),
    ],
)
def test_a_place_where_no_socket_can_be_is_said(socket: str, said: str, world: World) -> None:
    with world.file.open("a") as file:
        file.write(f'[node]\nsocket = "{socket}"\n')
    with pytest.raises(ConfigError, match=rf"\[node\] socket: .*{socket}.*{said}.*another one"):
        open_node(world.file)
    assert not list(world.root.glob("*.lock"))


def test_a_second_node_of_another_configuration_is_told_so(world: World) -> None:
    world.node()
    with pytest.raises(ConfigError, match=r"running already: .*node\.sock \(look at it"):
        open_node(world.file)
    world.write_config(memory="32MiB")
    with pytest.raises(ConfigError, match=r"running already.*another configuration \(name another"):
        open_node(world.file)


def test_a_node_without_the_lock_is_left_alone(tmp_path: Path) -> None:
    """One of an older release holds none."""
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as older:
        older.bind(str(place))
        older.listen(8)
        with pytest.raises(FileExistsError, match="a node is running already"):
            OwnSocket(place, 8, everybody=False)
    own = OwnSocket(place, 8, everybody=False)
    own.let_go()
    own.listener.close()
