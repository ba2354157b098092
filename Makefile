# make demo: set-up, then a crawl becomes a trained model.  make test: set-up, then formatter, linter, type checker, tests.
# Needs Python 3.11 or newer and a package index; everything goes into .venv.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
# tests/conftest.py says which tests stay together on one process, and has the long ones first. Many of them wait for
# others: a process more than there are cores.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min((os.cpu_count() or 1) + 1, 4))')
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder

.PHONY: demo test quick exhaustive mutants lint setup clean

demo: $(READY)
	@$(BIN)/clipmill run demo

test: lint
	$(PYTEST)

quick: $(READY)
	$(PYTEST) -m "not slow and not exhaustive"

exhaustive: $(READY)
	$(PYTEST) -m "hypothesis and not exhaustive" --hypothesis-profile exhaustive
	$(PYTEST) -m exhaustive --hypothesis-profile exhaustive

mutants: $(READY)
	$(BIN)/python -m tests.mutants.plant

lint: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "error: not formatted; hint: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

setup: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; hint: make demo PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setting up .venv with $(PYTHON): a few minutes and about 7 GB, once"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[curate,train,dev]"
	@touch $(READY)

clean:
	rm -rf .venv runs
