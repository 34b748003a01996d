# Everything the project needs is made here, in folders of the checkout.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto

.PHONY: demo test lint types soak bench docs clean

$(VENV)/.run: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gristmill needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(VENV)/.run        ## install and count the words of the standard library
	$(BIN)/gristmill demo

test: $(VENV)/.test       ## the whole suite, in parallel
	$(BIN)/python -m pytest -n $(JOBS) -m "not soak"

lint: $(VENV)/.test
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

soak: $(VENV)/.test       ## what takes longer than CI has
	$(BIN)/python -m pytest -n 1 -m soak --timeout 3600 -rA

bench: $(VENV)/.test      ## measured beside the peers; writes bench/RESULTS.md
	$(BIN)/python bench/run.py

docs: $(VENV)/.test       ## write docs/reference from the code
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) .bench-venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
