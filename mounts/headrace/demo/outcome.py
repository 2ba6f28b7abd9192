"""What a demo found: its measurements, and the claims that they must bear out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.demo.job import Part
from headrace.demo.restricted import Kept, Search
from headrace_cache.service import Status


@dataclass(frozen=True, slots=True)
class Source:
    """One silo, read directly, through headrace cold and warm, and again after a restart."""

    name: str
    bytes: int
    direct: Part
    cold: Part
    warm: Part
    restarted: Part


@dataclass(frozen=True, slots=True)
class Check:
    """A sentence, and whether it was true in this run."""

    claim: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one demo measured. `kept` is the open file and the restricted one."""

    flights: int
    answer: tuple[tuple[str, int, float], ...]
    sources: Sequence[Source]
    same_answers: bool
    kept: tuple[Kept, Kept]
    search: Search
    status: Status
    seconds: float

    @property
    def checks(self) -> Sequence[Check]:
        """What this run claims, each with whether it held."""
        open_file, restricted = self.kept
        return (
            Check(
                "every way of reading gives the same answer",
                self.same_answers and bool(self.answer),
            ),
            Check(
                "the warm join fetched nothing from the stores",
                all(source.warm.bytes_fetched == 0 for source in self.sources),
            ),
            Check(
                "after a restart the join came from the sealed tier and fetched nothing",
                all(source.restarted.bytes_fetched == 0 for source in self.sources),
            ),
            Check(
                "the memory-only file is held in memory: read again, it fetched nothing",
                restricted.persistence == "memory-only"
                and restricted.memory_objects == 1
                and restricted.fetched == restricted.bytes
                and restricted.fetched_again == 0,
            ),
            Check(
                "the memory-only file left no page in the SSD tier, and a restart forgot it",
                restricted.ssd_objects == 0
                and restricted.fetched_after_restart == restricted.bytes,
            ),
            Check(
                "the file without a rule did leave its pages there, and a restart found them",
                open_file.ssd_objects == 1 and open_file.fetched_after_restart == 0,
            ),
            Check(
                f"neither file can be read in any of the {self.search.files} files that headrace "
                "keeps on disk",
                restricted.files_with_canary == open_file.files_with_canary == 0
                and self.search.files > 0,
            ),
            Check(
                "the same search finds both where they lie in plain",
                self.search.finds_what_is_there,
            ),
        )
