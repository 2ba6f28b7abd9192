from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace_namespace.backends.local import LocalBackend
from headrace_namespace.backends.protocol import Backend, BackendContext
from headrace_namespace.backends.registry import open_backend
from headrace_namespace.backends.request_limits import attempts_of, simultaneous_of
from headrace_namespace.backends.s3.backend import S3Backend
from headrace_namespace.clock import SystemClock
from headrace_namespace.config import table_from
from headrace_namespace.errors import ConfigError


def opened(url: str, folder: Path, **options: object) -> Backend:
    return open_backend(
        url, table_from(options, "test"), BackendContext(SystemClock(), {}, str(folder))
    )


def test_schemes_lead_to_their_backends(tmp_path: Path) -> None:
    assert isinstance(opened("file:///x", tmp_path), LocalBackend)
    assert isinstance(opened("some folder", tmp_path), LocalBackend)
    assert isinstance(opened("s3://bucket/x", tmp_path, anon=True), S3Backend)


def test_an_unknown_scheme_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ftp://.*file://, s3://"):
        opened("ftp://host/x", tmp_path)


def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ConfigError, match=r"pip install 'headrace\[s3\]'"):
        opened("s3://bucket/x", tmp_path)


def test_opening_s3_imports_no_botocore() -> None:
    program = (
        "import sys\n"
        "from headrace_namespace.backends.protocol import BackendContext\n"
        "from headrace_namespace.backends.registry import open_backend\n"
        "from headrace_namespace.clock import SystemClock\n"
        "from headrace_namespace.config import table_from\n"
        "open_backend('s3://b/x', table_from({}, 't'), BackendContext(SystemClock(), {}, '/'))\n"
        "sys.exit('botocore' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_mounts_own_limits_can_be_asked_for(tmp_path: Path) -> None:
    limited = opened("s3://bucket", tmp_path, anon=True, max_attempts=2, max_connections=7)
    assert (attempts_of(limited), simultaneous_of(limited)) == (2, 7)
    local = opened("x", tmp_path)
    assert (attempts_of(local), simultaneous_of(local)) == (5, 32)
