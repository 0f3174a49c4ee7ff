# Every target that runs something builds .venv first, when it is missing or older than what defines it.
PYTHON ?= python3
PHOTOS ?=
JOBS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# CI runs the slow tests as well.
MARKERS = $(if $(filter true,$(CI)),,-m "not slow")

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow models check lint types docs bench format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## index sample photos, or PHOTOS=folder, and leave a report in demo/
	$(BIN)/visavis face demo $(if $(PHOTOS),"$(PHOTOS)") --output demo

test: $(STAMP)  ## quick tests, doctests, code in docs, examples; with CI=true the slow tests too
	$(BIN)/pytest -n $(JOBS) $(MARKERS) $(ARGS)

test-slow: $(STAMP)  ## every test, however slow
	$(BIN)/pytest -n $(JOBS) $(ARGS)

models: $(STAMP)  ## fetch the default pack, which the demo and some pages need
	$(BIN)/visavis face models pull default

check: export CI := true
check: lint types demo test docs  ## what CI runs: lint, types, the demo, all tests, docs

lint: $(STAMP)  ## ruff: rules and format; tables as the benchmarks wrote them
	$(BIN)/python benchmarks/tables.py --check
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

docs: $(STAMP)  ## build the pages into site/; a warning is an error
	$(BIN)/typer visavis.app.cli.root utils docs --name visavis --output docs/cli.md
	$(BIN)/zensical build --clean --strict

bench: $(STAMP)  ## run every benchmark beside its peers, write results and the tables of README and docs
	$(BIN)/pip install --quiet --constraint constraints.txt -e '.[bench]'
	@for script in benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done
	$(BIN)/python benchmarks/tables.py

format: $(STAMP)  ## let ruff mend and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove .venv and everything built
	rm -rf $(VENV) build dist site demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch goes first and alone: a CPU build that lies ready is taken, and no other package's wish brings a CUDA build.
# As a variable the constraints hold for the build's own requirements too, which `pip install -c` leaves open.
$(STAMP): export PIP_CONSTRAINT := constraints.txt
$(STAMP): pyproject.toml constraints.txt tools/system-packages
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -e '.[all,dev,docs]'
	@tools/system-packages
	touch $@
