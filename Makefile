# What a person types. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
ENGINE_VENV := .venv-engine
OCR_VENV := .venv-ocr
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-engine test-ocr test-adit test-system chaos api-fuzz deid-corpus pixel-corpus check format up lock tables text-models vendor pictures messages clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.ready $(ENGINE_VENV)/.ready  ## make both environments

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@scripts/environment.sh $(PYTHON) $(VENV) requirements/dev.txt

$(ENGINE_VENV)/.ready: requirements/engine-test.txt pyproject.toml
	@scripts/environment.sh $(PYTHON) $(ENGINE_VENV) requirements/engine-test.txt

$(OCR_VENV)/.ready: requirements/ocr.txt pyproject.toml
	@scripts/environment.sh $(PYTHON) $(OCR_VENV) requirements/ocr.txt

demo: $(VENV)/.ready  ## a demo PACS, a first pseudonymized transfer, and the web pages
	@$(BIN)/adit demo

up: $(VENV)/.ready  ## run ADIT on this machine
	@$(BIN)/adit up

test: setup $(OCR_VENV)/.ready  ## every test, with the system packages they need
	@scripts/test.sh

test-engine: $(ENGINE_VENV)/.ready  ## the engine's tests, in an environment without Django
	@$(ENGINE_VENV)/bin/python -m pytest tests/engine -q

test-adit: $(VENV)/.ready  ## the tests of the Django project
	@$(BIN)/python -m pytest tests/adit -q

test-system: $(VENV)/.ready  ## the whole system, with Orthanc, dcmtk and Chromium
	@$(BIN)/python -m pytest tests/system -q -m "not chaos"

chaos: setup  ## archives that lie, then kills and restarts of all that runs, in both forms (RUNS=n KILLS=n SEED=n)
	@ADIT_LAB_RUNS=$(or $(RUNS),2000) ADIT_LAB_SEED=$(or $(SEED),0) \
		nice -n 19 $(ENGINE_VENV)/bin/python -m pytest tests/engine/test_chaos.py -q -n0 -k mixed_faults
	@ADIT_CHAOS_KILLS=$(or $(KILLS),150) ADIT_CHAOS_SEED=$(or $(SEED),0) \
		$(BIN)/python -m pytest tests/system/test_process_faults.py -q -s
	@ADIT_LAB_SEED=$(or $(SEED),0) $(BIN)/python -m pytest tests/system -q -n0 -m chaos

api-fuzz: $(VENV)/.ready  ## schemathesis over the schema of the REST API (SECONDS=n)
	@ADIT_API_FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest tests/system/test_schema_fuzz.py -q -n0

deid-corpus: $(ENGINE_VENV)/.ready $(OCR_VENV)/.ready  ## pseudonymize objects made to leak; count what is left of it
	@$(OCR_VENV)/bin/python scripts/deid_corpus.py
	@ADIT_WHOLE_CORPUS=1 $(ENGINE_VENV)/bin/python -m pytest -q -n0 \
		tests/engine/pseudonymize/test_deid_acceptance.py

test-ocr: $(OCR_VENV)/.ready  ## the tests of the text detection
	@$(OCR_VENV)/bin/python -m pytest tests/engine/pseudonymize/text_detection -q

pixel-corpus: $(OCR_VENV)/.ready  ## how much text in pixels the detection finds and misses (N=4000: the whole corpus)
	@$(OCR_VENV)/bin/python scripts/pixel_corpus.py --number $(or $(N),240)

check: $(VENV)/.ready  ## style, types, import contracts, migrations, templates
	@scripts/check.sh

bench: setup $(OCR_VENV)/.ready  ## the engine beside other tools, as ratios (BENCH="--quick --disk")
	@$(ENGINE_VENV)/bin/python -m benchmarks $(BENCH)
	@$(BIN)/python -m benchmarks.dicomweb
	@$(BIN)/python -m benchmarks.viewers
	@$(BIN)/python -m benchmarks.jobs
	@$(ENGINE_VENV)/bin/python -m benchmarks.folder_index
	@$(OCR_VENV)/bin/python -m benchmarks.text_detection

format: $(VENV)/.ready  ## let ruff put the code in order
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .

lock: $(VENV)/.ready  ## pin and hash the dependencies again (UPGRADE=--upgrade for newer ones)
	@scripts/lock.sh $(UPGRADE)

tables: $(VENV)/.ready  ## build the tables of the DICOM standard again
	@$(BIN)/python scripts/build_tables.py

text-models:  ## fetch the models of the text detection again
	@$(PYTHON) scripts/vendor_text_models.py

vendor:  ## fetch the front-end assets again from their npm packages
	@$(PYTHON) scripts/vendor_assets.py

messages: $(VENV)/.ready  ## list all messages in docs/messages.md
	@$(BIN)/python scripts/messages.py --write

pictures: $(VENV)/.ready  ## take the pictures of README and docs/operate.md
	@$(BIN)/python scripts/take_pictures.py

clean:  ## remove environments and caches, never data
	@rm -rf $(VENV) $(ENGINE_VENV) $(OCR_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
