"""`python -m headrace`: the command line without its script."""

from __future__ import annotations

import sys

from headrace.cli.main import main

sys.exit(main())
