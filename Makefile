# Every target sets up what it needs: a virtual environment in .venv and, as root on Debian, the programs that
# the system tests and benchmarks run against.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test check bench long docs clean peers

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml
	@echo "==> virtual environment in $(VENV)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[linux,dev]'
	@touch $@

peers:
	@bash checks/peers.sh

demo: $(READY) peers  ## ten lines of Python; two hosts, one network: connect, ping, fetch, throughput, status
	$(BIN)/python examples/demo

test: $(READY) peers  ## all tests, in under ten minutes on two cores
	$(BIN)/python -m pytest tests/sim tests/unit -n 2
	$(BIN)/python -m pytest tests/system tests/interop -n 3 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m checks.floors

bench: $(READY) peers  ## measure against the floors and wireguard-go; exits 1 on a missed target
	$(BIN)/python -m bench

long: $(READY) peers  ## soaks, big fuzzing, thousand-node runs
	WEFT_LONG=1 $(BIN)/python -m pytest -m long --timeout 7200

docs: $(READY)  ## build the documentation
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/properdocs build --strict

clean:  ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist site bench/out
