# Everything the project needs is made here, in folders of the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three more than there are processors: many tests wait for processes that they have started or killed.
JOBS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 3)")
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test lint types soak bench browser docs wheel clean

help:                     ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gristmill needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

# A newer pip takes a fifth of the time to find out what to install, and many of the packages' modules are their own tests.
$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	@$(PIP) --upgrade pip || echo 'pip stays as it is'
	$(PIP) --no-compile -e '.[test]'
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' $(VENV)/lib || true  # what does not compile is nothing that is used
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run        ## install, and count the words of the standard library
	$(BIN)/gristmill demo

test: $(VENV)/.test       ## the whole suite, in parallel
	@$(BIN)/python -m compileall -q src tests  # or each process of the tests would, where Python is told to keep no bytecode
	@tests/run $(BIN)/python -n $(JOBS) -m "not soak"

lint: $(VENV)/.test       ## ruff: mistakes, and the form of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test      ## mypy, strict
	$(BIN)/mypy

soak: $(VENV)/.test       ## the tests that take longer than CI has; writes bench/RESULTS.md
	$(BIN)/python bench/soak.py

bench: $(VENV)/.test      ## some hours: speed and memory beside the peers, written to bench/RESULTS.md
	$(BIN)/python bench/run.py

# The tests of the page look at it with this. Nothing is downloaded but by the system's own packages.
browser:                  ## install chromium for the tests of the page, where it is missing and may be installed
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; \
		timeout 300 sh -c 'apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium' >/dev/null \
		|| { echo 'chromium could not be installed' >&2; exit 1; }; \
	else \
		echo 'Install chromium for the tests of the page; on Debian: apt-get install chromium' >&2; exit 1; \
	fi

docs: $(VENV)/.test       ## write the pages of docs/ that are drawn from the code
	$(BIN)/python docs/generate.py

wheel: $(VENV)/.run       ## build dist/gristmill-*.whl
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

clean:                    ## remove all that was made here: environments, caches, measured data, wheels
	rm -rf $(VENV) .bench-venv .bench-data .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests docs bench examples -name __pycache__ -prune -exec rm -rf {} +
