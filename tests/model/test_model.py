"""Random operations on the whole cache, with faults at every seam, beside a plain dict.

`HEADRACE_TEST_EFFORT=700 pytest tests/model` takes more than a million steps.
"""

from __future__ import annotations

import pytest

from tests.effort import EFFORT
from tests.model.machines import DictMachine, SsdMachine
from tests.model.running import run

#: Of some fifty steps each.
DICT_EXAMPLES = 20
SSD_EXAMPLES = 10


@pytest.mark.timeout(0 if EFFORT > 1 else 180)
def test_the_cache_over_a_forgetful_tier_is_what_the_dict_says() -> None:
    run(DictMachine, DICT_EXAMPLES * EFFORT)


@pytest.mark.timeout(0 if EFFORT > 1 else 180)
def test_the_cache_over_a_faulty_ssd_is_what_the_dict_says() -> None:
    run(SsdMachine, SSD_EXAMPLES * EFFORT)
