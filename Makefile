# Each target works alone on a fresh checkout with Python 3.11 (or later) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help venv demo fmt lint types check test clean

help:
	@echo "make venv   set up .venv with the pinned versions"
	@echo "make demo   draw phantoms, train a small UNet 3+, segment a scan it has not seen, score it"
	@echo "make test   set up, lint, types, tests"
	@echo "make fmt    format the code"

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: venv
	$(BIN)/fullscale demo -o demo

fmt: venv
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

check: lint types

test: check
	$(BIN)/python -m pytest

clean:
	rm -rf demo build .mypy_cache .ruff_cache .pytest_cache .hypothesis
