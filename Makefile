# Everything a person or CI types. Needs Python 3.11+ and make; the rest is installed into .venv.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ONCE ?=
DATA_DIR ?=
PORT ?= 3000

.PHONY: help setup demo test lint types contract-imports soak mutants snapshot errors screenshots lock clean

help:
	@echo "make setup        the environment in .venv (.venv/bin/zest)"
	@echo "make demo         the whole platform with four made-up tenants; Ctrl-C ends it"
	@echo "make demo ONCE=1  the same for one full cycle; exit 0 if the partner equals the product"
	@echo "make test         everything that CI runs"
	@echo "make soak         the long forms of what proves delivery and limits, an hour; prints what it measured"
	@echo "make mutants      each rule of delivery and of the way in broken on purpose, and which test notices"
	@echo "make snapshot     tests/integration/definitions.yaml anew, where a change of what Dagster is shown is meant"
	@echo "make errors       docs/errors.md anew, from the catalogue of reasons and the tests that bring each about"
	@echo "make screenshots  docs/images anew, by the browser tests"
	@echo "make lock         requirements.lock from pyproject.toml"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

demo: setup
	$(BIN)/zest $(if $(DATA_DIR),--data-dir $(DATA_DIR)) demo --port $(PORT) $(if $(ONCE),--once)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

contract-imports: setup
	$(BIN)/lint-imports

# Without compiled modules every process of a test compiles them anew.
test: export PYTHONDONTWRITEBYTECODE :=

# Three at a time: most of the time is waiting for processes. A file's tests share what they start, the long files go first.
test: lint types contract-imports
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

# What is measured by the clock has the machine to itself.
TIMED = $(wildcard tests/proof/test_ledger_[ks]*.py) tests/proof/test_limit_shrinks.py tests/proof/test_outage.py \
	tests/proof/test_crowd.py

soak: setup
	ZEST_SOAK=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -rP tests/proof \
		tests/contract/test_certification_stops.py tests/acceptance/test_demo.py tests/acceptance/test_platform.py \
		tests/acceptance/test_cli_commands.py tests/browser/test_dagster_ui.py $(TIMED:%=--ignore=%)
	ZEST_SOAK=1 $(BIN)/pytest -rP $(TIMED)

mutants: setup
	$(BIN)/python tests/proof/mutants_table.py

snapshot: setup
	$(BIN)/python tests/integration/definitions_snapshot.py

errors: setup
	PYTHONPATH=tests/integration $(BIN)/python tests/integration/errors_page.py

screenshots: setup
	ZEST_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/pytest tests/browser

lock: setup
	$(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --extra dev --no-strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) build *.egg-info
