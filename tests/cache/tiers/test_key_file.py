from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_cache.tiers.ssd.key_file import load_or_make_key
from headrace_namespace.errors import ConfigError
from tests.cache.tiers.ssd_world import HOUSE

_LOAD = """
import sys
from pathlib import Path
from headrace_cache.tiers.ssd.key_file import load_or_make_key
sys.stdin.readline()
print(load_or_make_key(Path(sys.argv[1]), Path(sys.argv[2])).hex())
"""


def test_a_key_is_made_once_and_kept(tmp_path: Path) -> None:
    key_file = tmp_path / "deep" / "er" / "key"
    key = load_or_make_key(key_file, tmp_path / "cache")
    assert len(key) == 32
    assert load_or_make_key(key_file, tmp_path / "cache") == key
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(key_file.parent) == ["key"]


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LOAD, str(tmp_path / "key"), str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(
            command, cwd=HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=60)[0] for process in processes}
    assert len(keys) == 1
    assert keys == {(tmp_path / "key").read_bytes().hex() + "\n"}


def test_inside_the_cache_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    for key_file in (tmp_path / "cache" / "a" / "key", tmp_path / "link" / "key"):
        with pytest.raises(ConfigError, match="outside the folder"):
            load_or_make_key(key_file, tmp_path / "cache")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_readable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    key_file = tmp_path / "key"
    load_or_make_key(key_file, tmp_path / "cache")
    key_file.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {key_file}"):
        load_or_make_key(key_file, tmp_path / "cache")


@pytest.mark.parametrize("content", [b"short", b"x" * 33, bytes(33)])
def test_what_is_no_key_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(content)
    key_file.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key"):
        load_or_make_key(key_file, tmp_path / "cache")
    assert key_file.read_bytes() == content


@pytest.mark.parametrize("left", [b"", bytes(7), bytes(32)])
def test_a_lost_key_is_made_anew_and_agreed_on(tmp_path: Path, left: bytes) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(left)
    key_file.chmod(0o600)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(load_or_make_key, key_file, tmp_path / "cache") for _ in range(8)]
        made = [one.result() for one in asked]
    assert set(made) == {key_file.read_bytes()}
    assert len(made[0]) == 32 and any(made[0])
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_a_pipe_as_key_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(ConfigError, match="regular"):
        load_or_make_key(tmp_path / "key", tmp_path / "cache")


def test_a_folder_as_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="regular"):
        load_or_make_key(tmp_path, tmp_path / "cache")
