"""Who may read an object: the users and groups that rules name, and who asks. Pure values.

Each rule that names some admits those whom it names, and nobody else; where several apply, each
must admit. So the audience, like all of a placement, is a lattice: it joins to the stricter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, by every name that a rule may know him by: a user's name and number, and those of
    his groups. Without any he is nobody in particular."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @property
    def word(self) -> str:
        """His name, for messages; a number where he has none."""
        named = sorted(self.users, key=lambda user: (user.isdecimal(), user))
        return f"user {named[0]}" if named else "a client without a name"


#: Who has shown nothing of himself.
ANONYMOUS = Principal()


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whom one rule admits: these users, and the members of these groups."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    def admits(self, principal: Principal) -> bool:
        """Whether he is one of them."""
        return not (
            self.users.isdisjoint(principal.users) and self.groups.isdisjoint(principal.groups)
        )

    def within(self, other: Admitted) -> bool:
        """Whether it admits nobody whom `other` does not."""
        return self.users <= other.users and self.groups <= other.groups

    @property
    def words(self) -> str:
        """As people read it."""
        users = f"users {', '.join(sorted(self.users))}" if self.users else ""
        groups = f"groups {', '.join(sorted(self.groups))}" if self.groups else ""
        return " or ".join(filter(None, (users, groups))) or "nobody"


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom all of these lists admit; everybody where there is none."""

    lists: frozenset[Admitted] = frozenset()

    def admits(self, principal: Principal) -> bool:
        """Whether he may read."""
        return all(one.admits(principal) for one in self.lists)

    def join(self, other: Audience) -> Audience:
        """The stricter: those whom both admit."""
        if self.lists == other.lists:
            return self
        lists = self.lists | other.lists
        return Audience(
            frozenset(
                one
                for one in lists
                if not any(another != one and another.within(one) for another in lists)
            )
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Each list as people read it, sorted."""
        return tuple(sorted(one.words for one in self.lists))


EVERYBODY = Audience()
NOBODY = Audience(frozenset([Admitted()]))
