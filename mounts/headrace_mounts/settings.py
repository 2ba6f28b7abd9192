"""The configuration, found and read once: `headrace.toml`, the environment, the defaults.

This is the one room that reads the environment. What comes out is values, checked, that the places
which build things take as they are. It lives among the ways in, because an fsspec file system has
to find the configuration by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from headrace_cache.limits import CacheSettings, PolicySource
from headrace_mounts.standard_folders import (
    cache_folder,
    config_folder,
    home_folder,
    state_folder,
)
from headrace_namespace.clock import Clock, SystemClock
from headrace_namespace.config import Table, parse_toml, read_text, table_from
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.errors import ConfigError, InvalidPath, NameTooLong
from headrace_namespace.freshness import Freshness
from headrace_namespace.mount_table import TAG, Mount
from headrace_namespace.path import NamespacePath

#: What a caller may give as the configuration: a file's name, or its content as a dict.
ConfigSource: TypeAlias = str | os.PathLike[str] | Mapping[str, object]

SYSTEM_FILE = Path("/etc/headrace/headrace.toml")
EXAMPLE = '[[mount]]\npath = "/data"\nurl = "/srv/data"'

DEFAULT_MEMORY_BYTES = 2 << 30
DEFAULT_SSD_BYTES = 20 << 30
#: Eight pages: below this, one reader's read-ahead would push out what it is about to read.
LEAST_MEMORY_BYTES = 8 << 20
#: Below this the tier's own bookkeeping takes more room than the pages that it could keep.
LEAST_SSD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is needed to open a cache. `source` is the file's name, or "config" for a dict.

    `fingerprint` is equal for two loads that mean the same, and differs once anything was edited.
    """

    mounts: tuple[MountDeclaration, ...]
    cache: CacheSettings
    policy: PolicySource | None
    context: BackendContext
    source: str
    fingerprint: str


def load_settings(
    config: ConfigSource | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    system_file: Path = SYSTEM_FILE,
    clock: Clock | None = None,
) -> Settings:
    """The configuration in `config` (a file's name, or a dict), or else the first one found.

    Looked for in this order: HEADRACE_CONFIG, `$XDG_CONFIG_HOME/headrace/headrace.toml`, and
    `system_file`. Relative names in a file are relative to its folder, those in a dict to the
    current folder. `${NAME}` in a value stands for an environment variable, `$${` for a plain `${`.
    Raises ConfigError, naming file, line and key, for whatever is wrong; nothing is guessed.
    """
    if isinstance(config, Mapping):
        root, source = table_from(config, "config"), "config"
        folder = Path.cwd()
    else:
        file = find_file(config, environ=environ, system_file=system_file)
        root, source = parse_toml(read_text(file, "configuration file"), str(file)), str(file)
        folder = file.parent
    root = root.with_texts(lambda text: _expanded(text, environ))
    mounts = _mounts(root, environ)
    cache = _cache(root.table("cache"), folder, environ)
    policy = _policy(root.table("policy"), folder, environ) if "policy" in root else None
    root.done()
    if not mounts:
        raise ConfigError(f"{source} has no mounts, so the tree is empty; add one:\n\n{EXAMPLE}\n")
    context = BackendContext(clock or SystemClock(), environ, str(folder))
    fingerprint = _fingerprint(root, folder, cache, policy, environ)
    return Settings(mounts, cache, policy, context, source, fingerprint)


def find_file(
    config: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    system_file: Path = SYSTEM_FILE,
    option: str = "config=",
) -> Path:
    """The configuration file that `load_settings` reads; `option` is how a caller names one.

    Raises ConfigError where there is none, with the places where it was looked for.
    """
    if config is not None:
        return _named(config, "the configuration file")
    if environ.get("HEADRACE_CONFIG"):
        return _named(environ["HEADRACE_CONFIG"], "the file that HEADRACE_CONFIG names")
    places = (config_folder(environ) / "headrace.toml", system_file)
    for place in places:
        if place.exists():
            return place.absolute()
    looked = "".join(f"\n  {place}" for place in (option, "HEADRACE_CONFIG", *places))
    if Path("headrace.toml").is_file():
        # Not taken by itself: whoever can write to a folder could mount what he likes in it.
        end = '"headrace.toml"' if option.endswith("=") else " headrace.toml"
        then = f"There is a headrace.toml in this folder; to use it, give {option}{end}"
    else:
        then = f"A configuration can be as short as this:\n\n{EXAMPLE}\n"
    raise ConfigError(f"there is no configuration; looked for it in{looked}\n{then}")


def _named(name: str | os.PathLike[str], what: str) -> Path:
    file = Path(name).absolute()
    if not file.exists():
        raise ConfigError(f"{what} is not there: {file}")
    return file


_REFERENCE = re.compile(r"(\$?)\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        escaped, name = match[1], match[2]
        if escaped:
            return match[0][1:]
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{match[0]} does not name a variable; for a plain ${{ write $${{")
        if name not in environ:
            raise ValueError(f"the environment variable {name} is not set")
        return environ[name]

    return _REFERENCE.sub(value, text)


def _mounts(root: Table, environ: Mapping[str, str]) -> tuple[MountDeclaration, ...]:
    found: dict[str, MountDeclaration] = {}
    for table in root.tables("mount"):
        declaration = _mount(table, environ)
        path = declaration.mount.path
        other = found.get(path.folded)
        if other is not None:
            raise table.error("path", f"{path} is mounted twice (also as {other.mount.path})")
        found[path.folded] = declaration
    return tuple(found.values())


def _mount(table: Table, environ: Mapping[str, str]) -> MountDeclaration:
    text = table.text("path")
    try:
        path = NamespacePath.parse(text)
    except (InvalidPath, NameTooLong) as error:
        raise table.error("path", error.message, error.hint) from None
    if path.text != text:
        raise table.error("path", f"{text!r} is not a plain path", f"write {path.text!r}")
    url = table.text("url")
    if not url:
        raise table.error("url", "is empty", 'a store, such as "s3://bucket" or "/srv/data"')
    _refuse_credentials(table, "url", url)
    if url.startswith("~/"):
        url = str(home_folder(environ) / url[2:])
    freshness = _freshness(table)
    tags = table.texts("tags")
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise table.error("tags", f"{tag!r} is not a tag", 'write it like "pii=eu"')
    options = table.table("options")
    for key, value in options.plain().items():
        if isinstance(value, str):
            _refuse_credentials(options, key, value)
    read_only = table.boolean("read_only", False)
    ttl = table.seconds("ttl", 0) if "ttl" in table else None
    if ttl == 0:
        raise table.error("ttl", "is 0", "leave it out, or let the policy say no-cache")
    table.done()
    return MountDeclaration(Mount(path, url, freshness, tags, read_only, ttl), options)


def _freshness(table: Table) -> Freshness:
    given = table.plain().get("freshness")
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Freshness(table.seconds("freshness", 0))
    word = table.text("freshness", "check")
    try:
        return Freshness.parse(word)
    except ValueError as error:
        raise table.error("freshness", str(error)) from None


def _refuse_credentials(table: Table, key: str, url: str) -> None:
    """Refuse a URL with a secret in it: URLs are printed, logged and sent along with errors."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return
    user = rest.split("/", 1)[0].rpartition("@")[0]
    try:
        password = urlsplit(url).password
    except ValueError:
        password = None
    if ":" in user or password or (user and scheme.startswith("s3")):
        raise table.error(
            key,
            "a URL must not carry credentials",
            "name environment variables instead: key_env and secret_env, or a profile",
        )


def _cache(table: Table, folder: Path, environ: Mapping[str, str]) -> CacheSettings:
    named = table.optional_text("folder")
    place = cache_folder(environ) if named is None else _file(table, "folder", folder, environ)
    real = Path(os.path.realpath(place))
    memory = table.size("memory", DEFAULT_MEMORY_BYTES)
    if memory < LEAST_MEMORY_BYTES:
        raise table.error("memory", "must be at least 8MiB")
    ssd = table.size("ssd", DEFAULT_SSD_BYTES)
    if 0 < ssd < LEAST_SSD_BYTES:
        raise table.error("ssd", "must be at least 64MiB, or 0 for no SSD tier")
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    if table.optional_text("key_file") is None:
        key_file = state_folder(environ) / f"{name}.key"
    else:
        key_file = _file(table, "key_file", folder, environ)
    if table.optional_text("state_folder") is None:
        state = state_folder(environ) / f"{name}.state"
    else:
        state = _file(table, "state_folder", folder, environ)
    if Path(os.path.realpath(state)).is_relative_to(real):
        raise table.error(
            "state_folder",
            f"{state} lies inside the cache's folder, which may be deleted at any time",
            f"put it outside of {real}",
        )
    if Path(os.path.realpath(key_file)).is_relative_to(real):
        raise table.error(
            "key_file",
            f"{key_file} lies inside the cache's folder, so that whoever gets the sealed pages "
            "gets their key too",
            f"put it outside of {real}",
        )
    table.done()
    return CacheSettings(real, memory, ssd, key_file, state)


def _policy(table: Table, folder: Path, environ: Mapping[str, str]) -> PolicySource:
    file = _file(table, "file", folder, environ)
    table.done()
    if not file.exists():
        raise table.error("file", f"the policy file {file} is not there, so nothing is served")
    return PolicySource(read_text(file, "policy file"), str(file))


def _file(table: Table, key: str, folder: Path, environ: Mapping[str, str]) -> Path:
    """A file's name in a value: `~/` is the home, a relative name is relative to `folder`."""
    text = table.text(key)
    if not text or "\0" in text:
        raise table.error(key, "must name a file or folder")
    if text.startswith("~/"):
        return home_folder(environ) / text[2:]
    return folder / text


def _fingerprint(
    root: Table,
    folder: Path,
    cache: CacheSettings,
    policy: PolicySource | None,
    environ: Mapping[str, str],
) -> str:
    """A hash over every value, what they were made from, and the variables that options name."""
    plain = root.plain()
    parts = [
        json.dumps(plain, sort_keys=True, default=repr),
        str(folder),
        repr(cache),
        policy.name if policy else "",
        *(f"{name}={environ.get(name)}" for name in sorted(_named_variables(plain))),
    ]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _named_variables(plain: Mapping[str, object]) -> set[str]:
    """The environment variables that mount options name: by rule, the options in `_env`."""
    names: set[str] = set()
    for mount in cast("list[Mapping[str, object]]", plain.get("mount", [])):
        options = cast("Mapping[str, object]", mount.get("options", {}))
        names.update(str(value) for key, value in options.items() if key.endswith("_env"))
    return names
