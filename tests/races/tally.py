"""What came of many reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from headrace_namespace.errors import PolicyDenied, VersionGone
from tests.races.ledger import Ledger


@dataclass
class Tally:
    """Reads that gave right bytes; that were refused as they may be; and all others, which are
    wrong: what was the matter, for each."""

    right: int = 0
    gone: int = 0
    denied: int = 0
    wrong: list[str] = field(default_factory=list[str])

    @property
    def reads(self) -> int:
        """All of them."""
        return self.right + self.gone + self.denied + len(self.wrong)

    def add(self, other: Tally) -> None:
        """Count another's with this one's."""
        self.right += other.right
        self.gone += other.gone
        self.denied += other.denied
        self.wrong += other.wrong

    def as_dict(self) -> dict[str, object]:
        """To be sent as JSON."""
        return asdict(self)

    def judge(
        self,
        what: str,
        read: Callable[[], int],
        ledger: Ledger,
        *,
        age_seconds: float = 0.0,
        may_be_denied: bool = False,
    ) -> int | None:
        """Read (open included) once; the version that it gave, where it gave one."""
        oldest = ledger.acknowledged_before(age_seconds) if age_seconds else ledger.acknowledged
        try:
            version = read()
        except VersionGone:
            self.gone += 1
            if ledger.begun == oldest:
                self.wrong.append(f"{what}: version {oldest} is gone though nobody replaced it")
        except PolicyDenied as error:
            self.denied += 1
            if not may_be_denied:
                self.wrong.append(f"{what}: {error}")
        except BaseException as error:  # whatever it is, it is counted
            self.wrong.append(f"{what}: {type(error).__name__}: {error}")
        else:
            if oldest <= version <= ledger.begun:
                self.right += 1
                return version
            self.wrong.append(f"{what}: {version}, not {oldest} to {ledger.begun}")
        return None
