"""`mounts` and `status`: what the tree is made of, and what the cache holds."""

from __future__ import annotations

import dataclasses
import sys

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.printing import print_facts, print_json, print_table
from headrace_cache.service import Status
from headrace_namespace.units import format_bytes


@click.command()
@json_option
@pass_call
def mounts(call: Call, as_json: bool) -> None:
    """Show the mount table; with --json, one mount a line.

    Example: headrace mounts
    """
    table = call.service().mounts()
    if as_json:
        for mount in table:
            print_json(
                {
                    "path": mount.path.text,
                    "url": mount.url,
                    "freshness": str(mount.freshness),
                    "tags": list(mount.tags),
                }
            )
        return
    print_table(
        ("path", "url", "freshness", "tags"),
        [
            (mount.path.text, mount.url, str(mount.freshness), ", ".join(mount.tags) or "-")
            for mount in table
        ],
    )


@click.command()
@json_option
@pass_call
def status(call: Call, as_json: bool) -> None:
    """Show what each tier of the cache holds, and the hits, misses and requests of this process.

    Example: headrace status --json
    """
    now = call.service().status()
    if as_json:
        print_json(dataclasses.asdict(now))
    else:
        _show(now)


def _show(now: Status) -> None:
    print_table(
        ("tier", "used", "limit", "objects"),
        [
            (name, format_bytes(tier.used), format_bytes(tier.limit), str(tier.objects))
            for name, tier in now.tiers.items()
        ],
        right="-rrr",
    )
    asked = now.hits + now.misses
    sys.stdout.write("\n")
    print_facts(
        {
            "hits": now.hits,
            "misses": now.misses,
            "hit ratio": f"{now.hits / asked:.1%}" if asked else "-",
            "fetched": format_bytes(now.bytes_fetched),
            "served": format_bytes(now.bytes_served),
        }
    )
    requests = [
        (mount, operation, str(count))
        for mount, operations in sorted(now.requests.items())
        for operation, count in sorted(operations.items())
    ]
    if requests:
        sys.stdout.write("\n")
        print_table(("mount", "request", "count"), requests, right="--r")
