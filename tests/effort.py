"""How long the tests that search for rare faults go on.

CI takes a slice of them. `make soak`, or `HEADRACE_TEST_EFFORT=100 pytest tests/model`, repeats
their rounds that many times over.
"""

from __future__ import annotations

import os

#: By how much the rounds of such a test are multiplied; 1 in CI.
EFFORT = max(1, int(os.environ.get("HEADRACE_TEST_EFFORT", "1")))
