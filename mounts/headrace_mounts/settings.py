"""The configuration, found and read once: `headrace.toml`, the environment, the defaults.

This is the one room that reads the environment. What comes out is values, checked, that the places
which build things take as they are. It lives among the ways in, because an fsspec file system has
to find the configuration by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from headrace_cache.access import NodeAddress
from headrace_cache.limits import CacheSettings, PolicySource
from headrace_cache.policy.audience import NOBODY
from headrace_mounts.node_settings import NodeSettings, read_node
from headrace_mounts.remote_settings import (
    file_named,
    host_and_port,
    read_http,
    read_remote,
    read_remotes,
)
from headrace_mounts.standard_folders import cache_folder, config_folder, state_folder
from headrace_namespace.clock import Clock, SystemClock
from headrace_namespace.config import Table, parse_toml, read_text, table_from
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.errors import ConfigError
from headrace_namespace.mount_declarations import read_mount, read_written_mount
from headrace_namespace.variables import expanded

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
#: In the state folder, unless the configuration names another.
NODE_SOCKET = "node.sock"


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
    node: NodeSettings
    #: What a node and its clients have in common: as `fingerprint`, but for what differs from user
    #: to user (folders of their own, credentials), where the node serves others.
    node_fingerprint: str


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
    Raises ConfigError, naming file, line and key, for whatever is wrong; nothing is guessed. It may
    have no mounts: they can be made at run time.
    """
    if isinstance(config, Mapping):
        root, source = table_from(config, "config"), "config"
        folder = Path.cwd()
    else:
        file = find_file(config, environ=environ, system_file=system_file)
        root, source = parse_toml(read_text(file, "configuration file"), str(file)), str(file)
        folder = file.parent
    root = root.with_texts(lambda text: expanded(text, environ))
    context = BackendContext(clock or SystemClock(), environ, str(folder))
    cache = _cache(root.table("cache"), folder, environ)
    mounts = _mounts(root, context, (str(cache.folder), str(cache.state_folder)))
    policy_table = root.table("policy")  # asked for in any case: it may be misspelt
    policy = _policy(policy_table, folder, environ) if "policy" in root else None
    node = _node(root.table("node"), folder, cache, environ)
    read_remotes(root, folder, environ)
    root.done()
    meaning = _meaning(root, folder, policy)
    fingerprint = _hash(meaning + _own_parts(root, cache, environ))
    common = fingerprint if node.served == NOBODY else _hash(meaning)
    return Settings(mounts, cache, policy, context, source, fingerprint, node, common)


def load_remote(
    node: str,
    given: Mapping[str, object],
    config: ConfigSource | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    system_file: Path = SYSTEM_FILE,
) -> NodeAddress:
    """How to reach the node at `host:port`: by what is `given` (the keys of a `[[remote]]`, and
    `token`), and for the rest by the `[[remote]]` of that address in the configuration, where there
    is one. Raises ConfigError.
    """
    address = host_and_port(f"{node}")  # who gives a number is told so too
    if address is None:
        raise ConfigError(f"{node!r} is no address of a node", hint="write it as host:port")
    remote = read_remote(table_from(given, "options"), Path.cwd(), environ)
    if isinstance(config, Mapping):
        root, folder = table_from(config, "config"), Path.cwd()
    else:
        file = _file_if_any(config, environ, system_file)
        if file is None:
            return remote.address(*address, environ)
        root = parse_toml(read_text(file, "configuration file"), str(file))
        folder = file.parent
    root = root.with_texts(lambda text: expanded(text, environ))
    known = read_remotes(root, folder, environ).get(address)
    return (remote if known is None else remote.over(known)).address(*address, environ)


def _file_if_any(
    config: str | os.PathLike[str] | None, environ: Mapping[str, str], system_file: Path
) -> Path | None:
    if config is not None or environ.get("HEADRACE_CONFIG"):
        return find_file(config, environ=environ)
    places = (config_folder(environ) / "headrace.toml", system_file)
    return next((place.absolute() for place in places if place.exists()), None)


def declare_mount(
    written: Mapping[str, object], *, environ: Mapping[str, str] = os.environ
) -> MountDeclaration:
    """The mount that somebody has written on a command line, as a `[[mount]]` table with a `path`.

    Its options may all be texts; relative names in them are relative to the current folder. Raises
    ConfigError, as for a mount of a file.
    """
    context = BackendContext(SystemClock(), environ, str(Path.cwd()))
    return read_written_mount(written, f"mount {written['path']}", context)


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


def log_choice(
    levels: Sequence[str], formats: Sequence[str], *, environ: Mapping[str, str] = os.environ
) -> tuple[str, str]:
    """The level and the form of logs that HEADRACE_LOG names, as `debug` or `debug,json`; else
    `warning` and `text`. Raises ConfigError."""
    text = environ.get("HEADRACE_LOG", "")
    level, form = "warning", "text"
    for word in (part.strip().lower() for part in text.split(",") if part.strip()):
        if word in levels:
            level = word
        elif word in formats:
            form = word
        else:
            raise ConfigError(
                f"HEADRACE_LOG={text!r}: {word!r} is neither a level nor a form of logs",
                hint=f"write one of {', '.join(levels)}, and perhaps one of {', '.join(formats)}",
            )
    return level, form


def _named(name: str | os.PathLike[str], what: str) -> Path:
    file = Path(name).absolute()
    if not file.exists():
        raise ConfigError(f"{what} is not there: {file}")
    return file


def _mounts(
    root: Table, context: BackendContext, own_folders: Sequence[str]
) -> tuple[MountDeclaration, ...]:
    found: dict[str, MountDeclaration] = {}
    for table in root.tables("mount"):
        declaration = read_mount(table, context, own_folders)
        path = declaration.mount.path
        other = found.get(path.folded)
        if other is not None:
            raise table.error("path", f"{path} is mounted twice (also as {other.mount.path})")
        found[path.folded] = declaration
    return tuple(found.values())


def _cache(table: Table, folder: Path, environ: Mapping[str, str]) -> CacheSettings:
    named = table.optional_text("folder")
    place = cache_folder(environ) if named is None else file_named(table, "folder", folder, environ)
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
        key_file = file_named(table, "key_file", folder, environ)
    if table.optional_text("state_folder") is None:
        state = state_folder(environ) / f"{name}.state"
    else:
        state = file_named(table, "state_folder", folder, environ)
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


def _node(
    table: Table, folder: Path, cache: CacheSettings, environ: Mapping[str, str]
) -> NodeSettings:
    named = table.optional_text("socket") is not None
    file = (
        file_named(table, "socket", folder, environ) if named else cache.state_folder / NODE_SOCKET
    )
    return read_node(table, file, read_http(table, folder, environ))


def _policy(table: Table, folder: Path, environ: Mapping[str, str]) -> PolicySource:
    file = file_named(table, "file", folder, environ)
    table.done()
    if not file.exists():
        raise table.error("file", f"the policy file {file} is not there, so nothing is served")
    if not file.is_file():
        raise table.error("file", f"{file} is not a plain file", "it is read again while in use")
    return PolicySource(read_text(file, "policy file"), str(file))


def _meaning(root: Table, folder: Path, policy: PolicySource | None) -> list[str]:
    """Every value as written, and what relative names in them are relative to."""
    plain = json.dumps(root.plain(), sort_keys=True, default=repr)
    return [plain, str(folder), policy.name if policy else ""]


def _own_parts(root: Table, cache: CacheSettings, environ: Mapping[str, str]) -> list[str]:
    """What else the values were made from: folders, and the variables that options name."""
    variables = sorted(_named_variables(root.plain()))
    return [repr(cache), *(f"{name}={environ.get(name)}" for name in variables)]


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _named_variables(plain: Mapping[str, object]) -> set[str]:
    """The environment variables that mount options name: by rule, the options in `_env`."""
    names: set[str] = set()
    for mount in cast("list[Mapping[str, object]]", plain.get("mount", [])):
        options = cast("Mapping[str, object]", mount.get("options", {}))
        names.update(str(value) for key, value in options.items() if key.endswith("_env"))
    return names
