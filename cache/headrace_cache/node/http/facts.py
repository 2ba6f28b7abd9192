"""What every answer about an object tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate

from headrace_cache.node.http.opened import Held
from headrace_cache.node.http.whole import header_lines
from headrace_cache.wire import routes


def facts_of(held: Held) -> dict[str, str]:
    """The headers that are about the object, and not about a range of it."""
    version, restricted = held.object.version, held.object.restricted
    headers = {
        "ETag": f'"{held.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        routes.RESTRICTED_HEADER: "true" if restricted else "false",
        # Whoever passes it on keeps no copy that he may not have, and asks each time.
        "Cache-Control": "no-store" if restricted else "private, no-cache",
    }
    if version.mtime is not None:
        headers["Last-Modified"] = formatdate(version.mtime, usegmt=True)
    return headers


def lines_of(held: Held, of_door: Mapping[str, str]) -> bytes:
    """The same, with the headers of all the door's answers, as they are sent: written once for all
    ranges, and anew where the policy has changed what they tell."""
    restricted = held.object.restricted
    if held.lines is None or held.lines_restricted is not restricted:
        held.lines = header_lines({**of_door, **facts_of(held)})
        held.lines_restricted = restricted
    return held.lines
