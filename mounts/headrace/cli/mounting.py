"""`mount`, `unmount`, `mounts`: what the tree is made of, and how it changes at run time."""

from __future__ import annotations

import os
import re
import sys

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.commands import Described
from headrace.cli.exit_codes import READING, WORKING
from headrace.cli.printing import escaped, print_json, print_table
from headrace.cli.tree_path import TREE_PATH
from headrace_namespace.errors import HeadraceError, StoreMissing
from headrace_namespace.mount_table import Mount
from headrace_namespace.path import NamespacePath

#: A URL, or what was meant as one; everything else is a folder's plain name.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[/~$]")


@click.command(
    cls=Described,
    examples=(
        "headrace mount /data /srv/data",
        "headrace mount /lake s3://bucket/prefix -o endpoint_url=http://127.0.0.1:9000",
        "headrace mount /hr s3://people -o profile=hr --tag pii=eu --read-only --ttl 7d",
    ),
    codes=WORKING,
)
@click.argument("path", type=TREE_PATH)
@click.argument("url")
@click.option(
    "--option",
    "-o",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="The store's own settings, such as endpoint_url=…; secrets by name: key_env, profile.",
)
@click.option("--freshness", metavar="AGE", help="check, pinned, or an age such as 30s.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Such as pii=eu.")
@click.option("--read-only", is_flag=True, help="Refuse writes.")
@click.option("--ttl", metavar="AGE", help="How long its bytes may be kept, such as 7d.")
@click.option("--over", is_flag=True, help="Hide the folder that is at PATH.")
@click.option("--unchecked", is_flag=True, help="Do not ask the store whether it is there.")
@json_option
@pass_call
def mount(
    call: Call,
    path: str,
    url: str,
    options: tuple[str, ...],
    freshness: str | None,
    tags: tuple[str, ...],
    read_only: bool,
    ttl: str | None,
    over: bool,
    unchecked: bool,
    as_json: bool,
) -> None:
    """Mount a store at PATH, until it is unmounted.

    Every process that shares the cache folder sees it within a second. The options are those of
    [mount.options] in the configuration; ${NAME} in a value stands for a variable of each process.
    """
    from headrace_mounts.settings import declare_mount

    place = NamespacePath.parse(path)
    written: dict[str, object] = {"path": place.text, "url": _whole(url)}
    if freshness is not None:
        written["freshness"] = freshness
    if tags:
        written["tags"] = list(tags)
    if read_only:
        written["read_only"] = True
    if ttl is not None:
        written["ttl"] = ttl
    if options:
        written["options"] = _pairs(options)
    declaration = declare_mount(written)
    service = call.service()
    others = service.add_mount(declaration, over=over, checked=not unchecked)
    for other in others:
        _note(f"{other.path} and {place} may reach the same objects; rules of either hold for both")
    if not unchecked:
        try:
            service.stat(place)
        except StoreMissing:
            _note("nothing lies there yet; the first write makes it")
        except HeadraceError:
            pass  # the policy may deny it; the store itself has answered
    if as_json:
        same = [other.path.text for other in others]
        print_json(_facts(declaration.mount) | {"same_objects": same})
    else:
        sys.stdout.write(f"mounted {escaped(place.text)}\n")


@click.command(cls=Described, examples=("headrace unmount /lake",), codes=WORKING)
@click.argument("path", type=TREE_PATH)
@json_option
@pass_call
def unmount(call: Call, path: str, as_json: bool) -> None:
    """Undo `headrace mount`, for every process.

    Files that are open still give what the cache holds of them. The store keeps all its objects.
    """
    place = NamespacePath.parse(path)
    service = call.service()
    mounted = next((one for one in service.mounts() if one.path == place), None)
    service.remove_mount(place)
    if as_json and mounted is not None:
        print_json(_facts(mounted))
    elif not as_json:
        sys.stdout.write(f"unmounted {escaped(place.text)}\n")


@click.command(cls=Described, examples=("headrace mounts", "headrace mounts --json"), codes=READING)
@json_option
@pass_call
def mounts(call: Call, as_json: bool) -> None:
    """Show the mount table; with --json, one mount a line."""
    table = call.service().mounts()
    if as_json:
        for one in table:
            print_json(_facts(one))
        return
    print_table(
        ("path", "url", "freshness", "tags", "writes", "from"),
        [
            (
                one.path.text,
                one.url,
                str(one.freshness),
                ", ".join(one.tags) or "-",
                "read-only" if one.read_only else "-",
                os.path.basename(one.source),
            )
            for one in table
        ],
    )
    if not table:
        note_empty()


def note_empty() -> None:
    """Say on standard error how a tree without any mount gets its first."""
    _note("nothing is mounted yet: headrace mount /data /srv/data, or add a [[mount]]")


def _facts(one: Mount) -> dict[str, object]:
    return {
        "path": one.path.text,
        "url": one.url,
        "freshness": str(one.freshness),
        "tags": list(one.tags),
        "read_only": one.read_only,
        "ttl": one.ttl_seconds,
        "source": one.source,
    }


def _whole(url: str) -> str:
    """A folder's plain name made whole: other processes run in other folders."""
    return url if not url or _URL.match(url) else os.path.abspath(url)


def _pairs(options: tuple[str, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for option in options:
        key, separator, value = option.partition("=")
        if not separator or not key:
            # Not repeated: who forgets the key may have typed a secret.
            raise click.BadParameter("write it like KEY=VALUE", param_hint="--option")
        if key in found:
            raise click.BadParameter(f"{key} is given twice", param_hint="--option")
        found[key] = value
    return found


def _note(sentence: str) -> None:
    sys.stderr.write(f"note: {escaped(sentence)}\n")
