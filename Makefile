# What a person types. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
ENGINE_VENV := .venv-engine
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-engine test-adit test-system chaos deid-corpus check format up lock tables vendor pictures messages clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready $(ENGINE_VENV)/.ready  ## make both environments

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@scripts/environment.sh $(PYTHON) $(VENV) requirements/dev.txt

$(ENGINE_VENV)/.ready: requirements/engine-test.txt pyproject.toml
	@scripts/environment.sh $(PYTHON) $(ENGINE_VENV) requirements/engine-test.txt

demo: $(VENV)/.ready  ## a demo PACS, a first pseudonymized transfer, and the web pages
	@$(BIN)/adit demo

up: $(VENV)/.ready  ## run ADIT on this machine
	@$(BIN)/adit up

test: setup  ## every test, with the system packages they need
	@scripts/test.sh

test-engine: $(ENGINE_VENV)/.ready  ## the engine's tests, in an environment without Django
	@$(ENGINE_VENV)/bin/python -m pytest tests/engine -q

test-adit: $(VENV)/.ready  ## the tests of the Django project
	@$(BIN)/python -m pytest tests/adit -q

test-system: $(VENV)/.ready  ## the whole system, with Orthanc, dcmtk and Chromium
	@$(BIN)/python -m pytest tests/system -q

chaos: setup  ## archives that lie, then kills and restarts of all that runs, in both forms (RUNS=n KILLS=n SEED=n)
	@ADIT_LAB_RUNS=$(or $(RUNS),2000) ADIT_LAB_SEED=$(or $(SEED),0) \
		nice -n 19 $(ENGINE_VENV)/bin/python -m pytest tests/engine/test_chaos.py -q -n0 -k mixed_faults
	@ADIT_CHAOS_KILLS=$(or $(KILLS),150) ADIT_CHAOS_SEED=$(or $(SEED),0) \
		$(BIN)/python -m pytest tests/system/test_process_faults.py -q -s

deid-corpus: $(ENGINE_VENV)/.ready  ## pseudonymize objects made to leak; count what is left of it
	@$(ENGINE_VENV)/bin/python scripts/deid_corpus.py
	@ADIT_WHOLE_CORPUS=1 $(ENGINE_VENV)/bin/python -m pytest -q -n0 \
		tests/engine/pseudonymize/test_deid_acceptance.py

check: $(VENV)/.ready  ## style, types, import contracts, migrations, templates
	@scripts/check.sh

bench: $(ENGINE_VENV)/.ready  ## the engine beside other tools, as ratios (BENCH="--quick --disk")
	@$(ENGINE_VENV)/bin/python -m benchmarks $(BENCH)

format: $(VENV)/.ready  ## let ruff put the code in order
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .

lock: $(VENV)/.ready  ## pin and hash the dependencies again (UPGRADE=--upgrade for newer ones)
	@scripts/lock.sh $(UPGRADE)

tables: $(VENV)/.ready  ## build the tables of the DICOM standard again
	@$(BIN)/python scripts/build_tables.py

vendor:  ## fetch the front-end assets again from their npm packages
	@$(PYTHON) scripts/vendor_assets.py

messages: $(VENV)/.ready  ## list all messages in docs/messages.md
	@$(BIN)/python scripts/messages.py --write

pictures: $(VENV)/.ready  ## take the README's pictures from a running demo
	@$(BIN)/python scripts/take_pictures.py

clean:  ## remove environments and caches, never data
	@rm -rf $(VENV) $(ENGINE_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
