"""What a person writes of one mount, read strictly.

It may stand in `headrace.toml`, on a command line, or in the ledger, which keeps what was written
there. This is the one parser of all three, so that nothing comes in by one that another refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from headrace_namespace.config import Table, table_from
from headrace_namespace.declaration import BackendContext, MountDeclaration
from headrace_namespace.errors import InvalidPath, NameTooLong
from headrace_namespace.freshness import Freshness
from headrace_namespace.mount_loops import local_folder, loop
from headrace_namespace.mount_table import RUN_TIME, TAG, Mount
from headrace_namespace.option_words import OptionWords
from headrace_namespace.path import SCHEME, NamespacePath
from headrace_namespace.variables import expanded, home_folder


def read_mount(
    table: Table, context: BackendContext, own_folders: Sequence[str] = ()
) -> MountDeclaration:
    """The mount that a `[[mount]]` table declares, its variables already expanded.

    `own_folders` are those in which headrace keeps what it holds. Raises ConfigError.
    """
    path = _path(table)
    url = _url(table, context, own_folders)
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
    source = table.where(None).rpartition(": mount[")[0]
    return MountDeclaration(
        Mount(path, url, freshness, tags, read_only, ttl, source=source),
        options,
        context.base_folder,
    )


def read_written_mount(
    written: Mapping[str, object],
    name: str,
    context: BackendContext,
    own_folders: Sequence[str] = (),
    *,
    mounting: str = "",
) -> MountDeclaration:
    """The mount that is declared by what somebody has written at run time, on a command line.

    `written` is a `[[mount]]` table, its variables not expanded; its options may all be texts.
    `name` says in errors where it stands; `mounting` tells one mount of a path from the next.
    Raises ConfigError.
    """
    table = table_from(written, name).with_texts(lambda text: expanded(text, context.environ))
    found = read_mount(table, context, own_folders)
    given = found.mount
    mount = Mount(
        given.path,
        given.url,
        given.freshness,
        given.tags,
        given.read_only,
        given.ttl_seconds,
        mounting,
        source=RUN_TIME,
    )
    return MountDeclaration(mount, OptionWords(found.options), found.base_folder, written)


def _path(table: Table) -> NamespacePath:
    text = table.text("path")
    try:
        path = NamespacePath.parse(text)
    except (InvalidPath, NameTooLong) as error:
        raise table.error("path", error.message, error.hint) from None
    if path.text != text:
        raise table.error("path", f"{text!r} is not a plain path", f"write {path.text!r}")
    return path


def _url(table: Table, context: BackendContext, own_folders: Sequence[str]) -> str:
    url = table.text("url")
    if not url:
        raise table.error("url", "is empty", 'a store, such as "s3://bucket" or "/srv/data"')
    _refuse_credentials(table, "url", url)
    if url.partition("://")[0].lower() == SCHEME:
        raise table.error(
            "url", f"{url!r} leads back into the tree", "mount the store behind it instead"
        )
    if url.startswith("~/"):
        url = str(home_folder(context.environ) / url[2:])
    folder = local_folder(url, context.base_folder)
    if folder is not None and "\0" not in folder:
        wrong = loop(folder, own_folders)
        if wrong is not None:
            hint = "mount another folder, or name other ones under [cache]"
            raise table.error("url", f"reading it would never end: {wrong}", hint)
    return url


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
