# Each target works alone on a fresh checkout with Python 3.11 (or later) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One process a core; a worker that is done takes tests from another.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: help venv demo page fmt lint types check quick test all faults gpu map docs clean

help:
	@echo "make venv   set up .venv with the pinned versions"
	@echo "make demo   draw phantoms, train a small UNet 3+, segment a scan it has not seen, score it"
	@echo "make page   build the page of fullscale serve into the package; needs npm (Node.js 20)"
	@echo "make quick  lint, types, and the first case of each small test: for every save"
	@echo "make test   set up, lint, types, all tests but the longest"
	@echo "make all    the same with the longest: every network exported and measured, the demo"
	@echo "make faults kill, fill disks, break files, and count (an hour; KILLS=5 FILES=10 SCANS=40 for a short one)"
	@echo "make gpu    on a GPU: its tests and the benchmarks in 2D and 3D, in under ten minutes, into benchmarks/"
	@echo "make fmt    format the code"
	@echo "make docs   build the documentation as a site, into site/; needs no network"
	@echo "make map    write docs/architecture.svg and the list of files in architecture.md"

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: venv
	$(BIN)/fullscale demo -o demo

# The versions of package-lock.json, without the scripts of packages.
page:
	cd page && npm ci --ignore-scripts --no-audit --no-fund && npm test && npm run build

fmt: venv
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy

check: lint types

# Without whole runs, slow tests and real scans, and of a test with many cases the first alone; see tests/conftest.py.
quick: check
	$(PYTEST) --quick

test: check
	$(PYTEST) -m "not long"

all: check
	$(PYTEST)

# Its counts stand in docs/reliability.md. One process: what is timed, killed and measured has the machine to itself.
KILLS ?= 30
FILES ?= 60
SCANS ?= 200
SEED ?= 13
faults: venv
	FAULTS=long FAULTS_KILLS=$(KILLS) FAULTS_FILES=$(FILES) FAULTS_SCANS=$(SCANS) FAULTS_SEED=$(SEED) \
		$(BIN)/python -m pytest --numprocesses 0 -m faults tests/faults --deselect tests/faults/test_table.py
	$(BIN)/python -m tests.faults.table

gpu: venv
	$(BIN)/python benchmarks/gpu.py

map: venv
	$(BIN)/python docs/draw_map.py

docs: venv
	$(BIN)/python docs/site/build.py site

clean:
	rm -rf demo site build .mypy_cache .ruff_cache .pytest_cache .hypothesis
