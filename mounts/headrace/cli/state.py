"""`mounts` and `status`: what the tree is made of, and what the cache holds."""

from __future__ import annotations

import dataclasses

import click

from headrace.cli.call import Call, json_option, pass_call
from headrace.cli.printing import print_json, print_table
from headrace_namespace.units import format_bytes

#: The tiers, nearest first; one that is not there is off.
TIERS = ("memory", "ssd")


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
    """Show what each tier of the cache holds.

    The memory tier is this process's own, so it is empty; the SSD tier is shared. With --json,
    hits, misses and requests are those of this process too: for a job's own, ask in the job.

    Example: headrace status --json
    """
    now = call.service().status()
    tiers = {name: tier for name, tier in now.tiers.items() if tier.limit}
    if as_json:
        print_json(dataclasses.asdict(dataclasses.replace(now, tiers=tiers)))
        return
    print_table(
        ("tier", "used", "limit", "objects"),
        [
            (name, format_bytes(tier.used), format_bytes(tier.limit), str(tier.objects))
            if (tier := tiers.get(name))
            else (name, "off", "-", "-")
            for name in TIERS
        ],
        right="-rrr",
    )
