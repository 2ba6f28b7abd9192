from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headrace_namespace.backends.protocol import BackendContext
from headrace_namespace.backends.s3.address import bucket_address
from headrace_namespace.backends.s3.backend import S3Backend, open_s3
from headrace_namespace.backends.s3.options import read_s3_options
from headrace_namespace.backends.s3.signing import Signer
from headrace_namespace.clock import SystemClock
from headrace_namespace.config import parse_toml, table_from
from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import ConfigError, HeadraceError

ENVIRON = {"KEY": "AKID", "SECRET": "hidden", "TOKEN": "hidden", "EMPTY": ""}


def opened(
    url: str = "s3://bucket", environ: dict[str, str] | None = None, **options: Any
) -> S3Backend:
    context = BackendContext(SystemClock(), ENVIRON | (environ or {}), "/nowhere")
    return open_s3(url, table_from(options, "mounts.toml"), context)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "hidden"}, "key_env"),
        ({"secret": "hidden"}, "secret_env"),
        ({"token": "hidden"}, "token_env"),
        ({"aws_secret_access_key": "hidden"}, "secret_env"),
        ({"key_env": "KEY"}, "together"),
        ({"secret_env": "SECRET"}, "together"),
        ({"token_env": "TOKEN"}, "together"),
        ({"key_env": "MISSING", "secret_env": "SECRET"}, "'MISSING' is not set"),
        ({"key_env": "KEY", "secret_env": "EMPTY"}, "'EMPTY' is not set"),
        ({"anon": True, "key_env": "KEY", "secret_env": "SECRET"}, "contradicts key_env"),
        ({"anon": True, "profile": "p"}, "contradicts profile"),
        ({"profile": "p", "key_env": "KEY", "secret_env": "SECRET"}, "contradicts profile"),
        ({"credentials_file": "none.ini"}, "/nowhere/none.ini"),
        ({"ca_bundle": "none.pem"}, "/nowhere/none.pem"),
        ({"addressing_style": "vitual"}, "did you mean 'virtual'"),
        ({"endpoint_url": "localhost:9000"}, "http://"),
        ({"endpoint_url": "ftp://host"}, "http://"),
        ({"endpoint_url": "http://host:port"}, "not a URL"),
        ({"endpoint_url": "http://me:hidden@host"}, "credentials do not belong"),
        ({"endpoint_url": "http://host?x"}, "query"),
        ({"connect_timeout": 0}, "more than 0"),
        ({"read_timeout": "soon"}, "30s"),
        ({"max_attempts": 0}, "at least 1"),
        ({"max_connections": 0}, "at least 1"),
        ({"endpoint": "http://host"}, "did you mean 'endpoint_url'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"mounts\.toml") as caught:
        opened(**options)
    assert words in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///x",
        "s3://me:hidden@bucket/x",
        "s3://b u/x",
        "s3://bucket/a/../b",
        "s3:bucket",
    ],
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(HeadraceError) as caught:
        opened(url)
    assert "hidden" not in str(caught.value)


def test_a_tilde_is_the_home_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "keys.ini").write_text("")

    def read(home: str) -> str | None:
        context = BackendContext(SystemClock(), {"HOME": home} if home else {}, "/nowhere")
        table = table_from({"credentials_file": "~/keys.ini"}, "mounts.toml")
        return read_s3_options(table, context).credentials_file

    assert read(str(tmp_path)) == str(tmp_path / "keys.ini")
    with pytest.raises(ConfigError, match=r"credentials_file: there is no file /no/keys\.ini"):
        read("/no")
    with pytest.raises(ConfigError, match=r"credentials_file: HOME is not set"):
        read("")


def test_a_profile_is_refused_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile own]\nendpoint_url = http://own\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def fault(profile: str) -> str:
        text = f'[[mount]]\npath = "/lake"\n[mount.options]\nprofile = "{profile}"\n'
        (mount,) = parse_toml(text, "h.toml").tables("mount")
        context = BackendContext(SystemClock(), {}, "/")
        with pytest.raises(ConfigError) as caught:
            open_s3("s3://bucket", mount.table("options"), context).stat("x")
        return str(caught.value)

    place = 'h.toml, line 4: mount["/lake"].options.profile: '
    assert fault("none").startswith(place)
    assert "list-profiles" in fault("none")
    assert fault("own").startswith(place)
    assert 'endpoint_url = "http://own"' in fault("own")


def test_a_ca_bundle_must_hold_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="no certificates"):
        opened(ca_bundle=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="http://"):
        opened(ca_bundle=str(tmp_path / "ca.pem"), endpoint_url="http://host")


def test_no_secret_shows_in_a_repr() -> None:
    context = BackendContext(SystemClock(), ENVIRON, "/")
    table = table_from({"key_env": "KEY", "secret_env": "SECRET", "token_env": "TOKEN"}, "t")
    assert "hidden" not in repr(read_s3_options(table, context))


@pytest.mark.parametrize(
    ("options", "store"),
    [
        ({}, "s3://aws/bucket"),
        ({"region": "eu-west-1"}, "s3://aws/bucket"),
        ({"region": "cn-north-1"}, "s3://aws-cn/bucket"),
        ({"endpoint_url": "https://s3.eu-west-1.amazonaws.com"}, "s3://aws/bucket"),
        ({"endpoint_url": "https://s3.cn-north-1.amazonaws.com.cn"}, "s3://aws-cn/bucket"),
        ({"endpoint_url": "http://Store.example:80/"}, "s3://store.example/bucket"),
        ({"endpoint_url": "https://store.example:443"}, "s3://store.example/bucket"),
        ({"endpoint_url": "http://store.example:9000"}, "s3://store.example:9000/bucket"),
        ({"endpoint_url": "http://[::1]:9000/gate/"}, "s3://[::1]:9000/gate/bucket"),
    ],
)
def test_identity_names_the_store_in_one_way(options: dict[str, Any], store: str) -> None:
    backend = opened("s3://bucket/pre/fix/", **options)
    assert backend.ref("a/b").store == store
    assert backend.ref("a/b").key == "pre/fix/a/b"
    assert backend.ref("").key == "pre/fix"
    assert (backend.space, backend.ref("x").key) == ("s3:bucket", "pre/fix/x")


def test_the_environment_may_name_the_endpoint() -> None:
    environ = {"AWS_ENDPOINT_URL": "http://any:1", "AWS_ENDPOINT_URL_S3": "http://three:3"}
    assert opened(environ=environ).ref("").store == "s3://three:3/bucket"
    assert opened(environ=environ, endpoint_url="http://own").ref("").store == "s3://own/bucket"
    ignored = {**environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    assert opened(environ=ignored).ref("").store == "s3://aws/bucket"
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        opened(environ={"AWS_ENDPOINT_URL": "http://me:hidden@host"})


@pytest.mark.parametrize(
    ("bucket", "style", "custom", "host", "target"),
    [
        ("bucket", "auto", True, "h:9", "/base/bucket/k%20%2B%23"),
        ("bucket", "auto", False, "bucket.h:9", "/base/k%20%2B%23"),
        ("dotted.bucket", "auto", False, "h:9", "/base/dotted.bucket/k%20%2B%23"),
        ("Upper_", "auto", False, "h:9", "/base/Upper_/k%20%2B%23"),
        ("bucket", "virtual", True, "bucket.h:9", "/base/k%20%2B%23"),
        ("bucket", "path", False, "h:9", "/base/bucket/k%20%2B%23"),
    ],
)
def test_addresses(bucket: str, style: str, custom: bool, host: str, target: str) -> None:
    endpoint = Endpoint.parse("https://h:9/base/")
    address = bucket_address(endpoint, bucket, style, custom=custom)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # parametrized texts
    assert address.endpoint.authority == host
    assert address.target("k +#", {}) == target


def test_aws_hosts_by_region() -> None:
    context = BackendContext(SystemClock(), ENVIRON, "/")
    table = table_from({"key_env": "KEY", "secret_env": "SECRET", "region": "eu-west-3"}, "t")
    signer = Signer(read_s3_options(table, context))
    assert signer.endpoint(signer.region()).host == "s3.eu-west-3.amazonaws.com"
    assert signer.endpoint("cn-north-1").host == "s3.cn-north-1.amazonaws.com.cn"
    assert signer.endpoint("us-east-1").host.endswith("amazonaws.com")
