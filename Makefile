# Python 3.11 or newer is all that is needed; `make PYTHON=/path/to/python3.12 test` picks another.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FAST := not slow and not soak
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install quick demo test test-slow test-faiss soak bench format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "CytoImageNet needs Python 3.11 or newer, and '$(PYTHON)' is not one:"; \
	  echo "  $$($(PYTHON) --version 2>&1 | head -n 1)"; \
	  echo "Name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: pip runs again only when what is to be installed has changed.
$(VENV)/check.stamp: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[check]' -c constraints.txt
	@touch $@

$(VENV)/train.stamp: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[train]' -c constraints.txt
	@touch $@

$(VENV)/dev.stamp: setup.py constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]' -c constraints.txt
	@touch $(VENV)/check.stamp $(VENV)/train.stamp $@

install: $(VENV)/dev.stamp  ## make .venv with all that the tests need

quick: $(VENV)/check.stamp  ## lint and the fast unit tests, without torch; under a minute
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -m "$(FAST)" -n 2 --maxfail 5 --ignore=tests/test_packaging.py

demo: $(VENV)/train.stamp  ## simulate raw data, build the data set, train a model on it, score it: demo/
	$(BIN)/cytoimagenet demo --to demo

test: $(VENV)/dev.stamp  ## lint, types, and all tests but the slow ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "$(FAST)" -n 2

test-slow: $(VENV)/dev.stamp  ## tests that start processes or read many real files
	$(BIN)/python -m pytest -m "slow and not soak"

# Beside the environment, not in it: faiss brings a second OpenMP, and most will not have it.
test-faiss: $(VENV)/dev.stamp  ## tests of kNN by faiss-cpu too
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/faiss faiss-cpu -c constraints.txt
	PYTHONPATH=$(VENV)/faiss $(BIN)/python -m pytest tests/evaluation/test_knn.py tests/evaluation/test_candidates.py

soak: $(VENV)/dev.stamp  ## tests that run for a long time
	$(BIN)/python -m pytest -m soak

bench: $(VENV)/dev.stamp  ## time the hot paths; fails if any figure is below its must
	@status=0; for script in benchmarks/speed/[!_]*.py; do \
	  echo "== $$script"; $(BIN)/python "$$script" || status=1; done; exit $$status

format: $(VENV)/dev.stamp  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, the demo and all caches; data sets stay
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
