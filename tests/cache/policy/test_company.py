from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from headrace_cache.policy.company import Company


def test_one_is_alone_until_another_comes_and_when_it_went(tmp_path: Path) -> None:
    first = Company(tmp_path / "lock")
    assert first.is_alone() and first.is_alone()
    second = Company(tmp_path / "lock")
    assert not first.is_alone() and not second.is_alone()
    second.close()
    second.close()
    assert first.is_alone() and not second.is_alone()
    first.close()


def test_a_process_that_was_killed_is_gone(tmp_path: Path) -> None:
    mine = Company(tmp_path / "lock")
    program = (
        "import pathlib, sys; from headrace_cache.policy.company import Company; "
        "held = Company(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        assert not mine.is_alone()
        other.kill()
    assert mine.is_alone()
    mine.close()


def test_where_no_lock_can_be_had_there_may_be_others(tmp_path: Path) -> None:
    assert not Company(tmp_path / "missing" / "lock").is_alone()
