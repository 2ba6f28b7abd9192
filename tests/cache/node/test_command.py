"""The command `headrace node`, and what it says to systemd and takes from it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_mounts.settings import load_settings
from tests.cache.node.conftest import World, path, whole


def command(world: World, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "headrace", "--config", str(world.file), "node"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_ended(world: World, number: signal.Signals) -> None:
    data = world.put("a", 10)
    process = command(world)
    assert process.stderr is not None
    assert "node: serving at" in process.stderr.readline()
    assert whole(world.client().open(path("a"))) == data
    process.send_signal(number)
    assert process.wait(30) == 0
    assert "node: ending" in process.stderr.read()
    process.stderr.close()
    assert not load_settings(world.file).node.socket.exists()


def test_a_supervisor_is_told_whether_the_node_answers(world: World) -> None:
    def check() -> tuple[int, str]:
        asked = [sys.executable, "-m", "headrace", "--config", str(world.file), "node", "--check"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code, said = check()
    assert code == 1 and said.endswith("node.sock (start one with: headrace node)\n")
    node = world.node_process()
    code, said = check()
    assert code == 0 and "node: answers at" in said
    node.send_signal(signal.SIGSTOP)
    try:
        code, said = check()
    finally:
        node.send_signal(signal.SIGCONT)
    assert code == 1 and "does not answer" in said
    assert f"(look at process {node.pid}: " in said and "headrace node" not in said
    world.write_config(memory="32MiB")
    code, said = check()
    assert code == 2 and "another configuration" in said


def test_systemd_is_told_that_it_is_ready_lives_and_stops(world: World, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0headrace-test-" + str(os.getpid()))
        manager.settimeout(30)
        address = "@headrace-test-" + str(os.getpid())
        process = command(world, NOTIFY_SOCKET=address, WATCHDOG_USEC="200000")
        try:
            ready, _, status = manager.recv(1000).partition(b"\n")
            assert ready == b"READY=1" and status.startswith(b"STATUS=clients 0, 0 B lent; memory")
            assert manager.recv(100) == manager.recv(100) == b"WATCHDOG=1"
            process.terminate()
            said = manager.recv(100)
            while said == b"WATCHDOG=1":
                said = manager.recv(100)
            assert said == b"STOPPING=1"
        finally:
            process.wait(30)
            assert process.stderr is not None
            process.stderr.close()


def test_systemds_socket_is_taken(world: World, tmp_path: Path) -> None:
    world.put("a", 10)
    where = load_settings(world.file).node.socket
    where.parent.mkdir(exist_ok=True)
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "os.chdir(os.path.dirname(sys.argv[1])); s.bind(os.path.basename(sys.argv[1]))\n"
        "s.listen(8); os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'headrace', '--config', sys.argv[2],"
        " 'node'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(where), str(world.file)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "node: serving" in process.stderr.readline()
        assert world.client().stat(path("a")).size == 10
    finally:
        process.terminate()
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()
    assert where.exists()  # it is systemd's


def test_a_node_that_may_open_few_files_says_so(world: World) -> None:
    few = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    words = ["-m", "headrace", "--config", str(world.file), "node"]
    process = subprocess.Popen(
        [sys.executable, "-c", few, *words], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr as said:
        assert "may have 200 files open" in said.readline()
        assert "node: serving at" in said.readline()
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("words", [("node",), ("node", "--check"), ("top",), ("ls", "/")])
def test_without_a_configuration_the_option_is_named(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "headrace.toml").write_text("")
    environ = {key: value for key, value in os.environ.items() if key != "HEADRACE_CONFIG"}
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environ | {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "none")},
        check=False,
    )
    if "there is no configuration" in done.stderr:  # this system may have one
        assert done.returncode == 2
        assert "to use it, give --config headrace.toml" in done.stderr
