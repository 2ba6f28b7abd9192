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
from headrace_namespace.config import parse_toml, table_from
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


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3a://bucket/x", "did you mean s3://"),
        ("S3://bucket/x", "did you mean s3://"),
        ("FILE:///x", "did you mean file://"),
        ("fil:///x", "did you mean file://"),
        ("gs://bucket/x", "endpoint_url"),
        ("s3:bucket", "write s3://bucket"),
        ("s3:/bucket/x", "write s3://bucket/x"),
        ("s3a:bucket", "write s3://bucket"),
        ("file:/x", "write file:///x"),
        ("file://host/x", "three slashes"),
        ("s3://", "names no bucket"),
        ("s3://bucket/a/../b", "mean nothing"),
        ("s3://bucket/" + "x" * 2000, "1024"),
    ],
)
def test_a_wrong_url_is_refused_at_its_place(url: str, words: str, tmp_path: Path) -> None:
    text = f'[[mount]]\npath = "/lake"\nurl = "{url}"\n[mount.options]\n'
    (mount,) = parse_toml(text, "h.toml").tables("mount")
    context = BackendContext(SystemClock(), {}, str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        open_backend(url, mount.table("options"), context)
    assert str(caught.value).startswith('h.toml, line 3: mount["/lake"].url: ')
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["a:b", "2026-01-01T00:00", "./s3:bucket", "/srv/file:x"])
def test_a_colon_in_a_folders_name_is_no_scheme(name: str, tmp_path: Path) -> None:
    assert isinstance(opened(name, tmp_path), LocalBackend)


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
