"""How long a machine runs, and how it is told apart from hour to hour."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from tests.effort import EFFORT
from tests.model.machine import TreeMachine
from tests.model.scale import scaled

#: In one example; long enough for a handle to live over several changes.
STEPS = 50
#: Hypothesis would take five minutes to make a failing run as short as it can be.
SHRINKING_SECONDS = 60


def run(machine: type[TreeMachine], examples: int, *, shrink: bool = True) -> None:
    """So many examples; the same ones in CI, others every time at a higher effort."""
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        derandomize=EFFORT == 1,
        database=None,
        print_blob=True,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
    )
    with scaled(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "MAX_SHRINKING_SECONDS", SHRINKING_SECONDS)
        begun = machine.steps_of_all
        try:
            run_state_machine_as_test(machine, settings=chosen)
        finally:
            print(f"{machine.__name__}: {machine.steps_of_all - begun:,} steps")
