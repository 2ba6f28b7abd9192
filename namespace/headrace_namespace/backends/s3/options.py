"""The options of an `s3://` mount: read strictly, and refused where they contradict each other."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import cast

from headrace_namespace.backends.protocol import BackendContext
from headrace_namespace.backends.s3.address import Style
from headrace_namespace.config import Table
from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import ConfigError

_SECRETS = (
    "key",
    "secret",
    "token",
    "access_key",
    "secret_key",
    "password",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
)
_SECRET_HINT = (
    "name environment variables instead: key_env, secret_env, token_env; or use profile or "
    "credentials_file"
)
#: A host that is there accepts within a round trip; beyond this it is not there.
CONNECT_SECONDS = 10.0
#: The longest silence within an answer; S3 itself gives up a silent connection after 20 s.
READ_SECONDS = 30.0
MAX_ATTEMPTS = 5
#: Enough streams of 8 MiB to fill 25 Gbit/s at 30 ms; each costs the store a thread.
MAX_CONNECTIONS = 32


@dataclass(frozen=True, slots=True, repr=False)
class StaticKeys:
    """Credentials from environment variables. Their repr is kept off logs."""

    key: str
    secret: str
    token: str | None

    def __repr__(self) -> str:
        return "StaticKeys(...)"


@dataclass(frozen=True, slots=True)
class S3Options:
    """What the options of a mount say, checked.

    `profile_place` says where the profile is named, for it is looked up with the first request.
    """

    endpoint: Endpoint | None
    region: str | None
    profile: str | None
    profile_place: str
    keys: StaticKeys | None
    credentials_file: str | None
    anon: bool
    style: Style
    ca_bundle: str | None
    connect_seconds: float
    read_seconds: float
    max_attempts: int
    max_connections: int


def read_s3_options(options: Table, context: BackendContext) -> S3Options:
    """The options in the table. Raises ConfigError for what is unknown, wrong or contradictory."""
    for name in _SECRETS:
        if name in options:
            raise options.error(name, "a secret does not belong in a configuration", _SECRET_HINT)
    result = S3Options(
        endpoint=_endpoint(options, context),
        region=options.optional_text("region")
        or context.environ.get("AWS_REGION")
        or context.environ.get("AWS_DEFAULT_REGION"),
        profile=options.optional_text("profile"),
        profile_place=options.where("profile"),
        keys=_static_keys(options, context),
        credentials_file=_file(options, "credentials_file", context),
        anon=options.boolean("anon", False),
        style=cast(Style, options.choice("addressing_style", ("auto", "path", "virtual"), "auto")),
        ca_bundle=_file(options, "ca_bundle", context),
        connect_seconds=_positive(options, "connect_timeout", CONNECT_SECONDS),
        read_seconds=_positive(options, "read_timeout", READ_SECONDS),
        max_attempts=options.integer("max_attempts", MAX_ATTEMPTS, least=1),
        max_connections=options.integer("max_connections", MAX_CONNECTIONS, least=1),
    )
    options.done()
    _refuse_contradictions(options, result)
    return result


def _endpoint(options: Table, context: BackendContext) -> Endpoint | None:
    environ = context.environ
    url, where = options.optional_text("endpoint_url"), "endpoint_url"
    if url is None:
        if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        for where in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
            if url := environ.get(where):
                break
    if not url:
        return None
    try:
        return Endpoint.parse(url)
    except ValueError as error:
        hint = 'write it like "https://s3.example.org:9000"'
        if where == "endpoint_url":
            raise options.error(where, str(error), hint) from None
        raise ConfigError(f"the environment variable {where}: {error}", hint=hint) from None


def _static_keys(options: Table, context: BackendContext) -> StaticKeys | None:
    values: dict[str, str | None] = {}
    for option in ("key_env", "secret_env", "token_env"):
        variable = options.optional_text(option)
        values[option] = None if variable is None else context.environ.get(variable)
        if variable is not None and not values[option]:
            raise options.error(
                option,
                f"the environment variable {variable!r} is not set",
                "set it where headrace is started",
            )
    key, secret, token = values["key_env"], values["secret_env"], values["token_env"]
    if key is not None and secret is not None:
        return StaticKeys(key, secret, token)
    for option, value in values.items():
        if value is not None:
            raise options.error(option, "key_env and secret_env must be given together")
    return None


def _file(options: Table, key: str, context: BackendContext) -> str | None:
    written = options.optional_text(key)
    if written is None:
        return None
    if written.startswith("~/"):
        home = context.environ.get("HOME")
        if not home:
            raise options.error(key, "HOME is not set, so ~/ names no folder", "write it in full")
        written = os.path.join(home, written[2:])
    path = os.path.join(context.base_folder, written)
    if not os.path.isfile(path):
        raise options.error(key, f"there is no file {path}")
    return path


def _positive(options: Table, key: str, default: float) -> float:
    seconds = options.seconds(key, default)
    if seconds <= 0:
        raise options.error(key, "must be more than 0 seconds")
    return seconds


def _refuse_contradictions(options: Table, result: S3Options) -> None:
    given = [
        name
        for name in ("key_env", "profile", "credentials_file")
        if name in options and options.optional_text(name) is not None
    ]
    if result.anon and given:
        raise options.error("anon", f"contradicts {given[0]}: leave one of them out")
    if result.keys is not None and len(given) > 1:
        raise options.error("key_env", f"contradicts {given[1]}: leave one of them out")
    if result.ca_bundle is None:
        return
    if result.endpoint is not None and result.endpoint.scheme == "http":
        raise options.error("ca_bundle", "means nothing for an http:// endpoint")
    try:
        ssl.create_default_context(cafile=result.ca_bundle)
    except ssl.SSLError as error:
        raise options.error("ca_bundle", f"holds no certificates: {error.reason}") from None
