"""Who a process is, as the system says: by names and numbers, as policy files may write either."""

from __future__ import annotations

import os
from collections.abc import Iterable

from headrace_cache.policy.audience import ANONYMOUS, Audience, Principal


def own_principal() -> Principal:
    """The user that this process acts as, and his groups."""
    if not hasattr(os, "geteuid"):
        return ANONYMOUS
    return principal_of(os.geteuid(), (os.getegid(), *os.getgroups()))


def principal_of(user: int, groups: Iterable[int]) -> Principal:
    """The user of this number with these groups, those that the system has a name for also by it.

    A name made of digits alone is passed over: it could be taken for another's number.
    """
    return Principal(
        frozenset(_both(user, name_of_user(user))),
        frozenset(word for group in groups for word in _both(group, _group_name(group))),
    )


def number_of_user(word: str) -> int | None:
    """The number of the user whom a configuration names, or gives by number; None for nobody."""
    if word.isdecimal():
        return int(word)
    try:
        import pwd  # no other system than POSIX has it

        return pwd.getpwnam(word).pw_uid
    except (ImportError, KeyError):
        return None


def unknown_names(audience: Audience) -> tuple[str, ...]:
    """Names of users and groups in it that this system does not know, so that they admit nobody."""
    users = {name for one in audience.lists for name in one.users if number_of_user(name) is None}
    groups = {name for one in audience.lists for name in one.groups if not _is_group(name)}
    return (
        *(f"user {name}" for name in sorted(users)),
        *(f"group {name}" for name in sorted(groups)),
    )


def _is_group(word: str) -> bool:
    if word.isdecimal():
        return True
    try:
        import grp

        grp.getgrnam(word)
    except (ImportError, KeyError):
        return False
    return True


def _both(number: int, name: str | None) -> tuple[str, ...]:
    return (str(number),) if name is None or name.isdecimal() else (str(number), name)


def name_of_user(user: int) -> str | None:
    """The name of the user of this number; None where the system knows none."""
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return None


def _group_name(group: int) -> str | None:
    try:
        import grp

        return grp.getgrgid(group).gr_name
    except (ImportError, KeyError):
        return None
