# The project's front doors. `make` alone lists them; CI runs `make check`.
#
# Needed: Linux, make, and Python 3.11 to 3.13 with its venv module. Nothing else is taken from the
# machine, and nothing is installed outside .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

STATION ?= station# the folder of `make run`
PICTURES ?=# a folder of photographs for `make bench`; empty: drawn ones
N ?= 2000# how many of them; of `make fuzz`: how many times the examples (50)
SEED ?=# of `make fuzz`
FAULTS ?=# how far `make faults` goes: --long, --seed N, --minutes N, --done FOLDER
ARGS ?=# more arguments for pytest or the benchmark
UPGRADE ?=# `make lock UPGRADE=--upgrade` takes the newest versions that are allowed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export VIRTUAL_ENV := $(abspath $(VENV))
# a company's own certificates, where the system trusts them
export UV_SYSTEM_CERTS := true

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

.PHONY: setup
setup: $(READY) ## make .venv with what the lock file names, and the project in it

# Skipped while the lock and pyproject.toml are older than the last success. uv, itself taken from
# the lock by hash, needs half of pip's time; where it cannot reach the package index that pip is
# configured for, pip does the same.
$(READY): requirements-dev.lock pyproject.toml
	@set -e; \
	fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; \
	if ! $(BIN)/python -c "import pip; $$fits" 2>/dev/null; then \
	    found=; \
	    for each in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	        if $$each -c "$$fits" 2>/dev/null; then found=$$each; break; fi; \
	    done; \
	    if [ -z "$$found" ]; then \
	        echo "crackwatch needs Python 3.11, 3.12 or 3.13, and finds $$(python3 --version 2>&1)." >&2; \
	        echo "Install one, then: make setup PYTHON=/path/to/python3.11" >&2; \
	        exit 1; \
	    fi; \
	    echo "making $(VENV) with $$($$found --version)"; \
	    if ! $$found -m venv --clear $(VENV); then \
	        echo "On Debian and Ubuntu the venv module is a package: apt install python3-venv" >&2; \
	        exit 1; \
	    fi; \
	fi
	@awk '/^[^ #]/ { on = /^uv==/ } on' requirements-dev.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install -q --require-hashes --no-deps -r $(VENV)/uv.txt
	@echo "installing what requirements-dev.lock names (a minute or two, 3 GB)"
	@$(BIN)/uv pip sync -q --require-hashes --compile-bytecode requirements-dev.lock \
	    || $(BIN)/python -m pip install -q --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q crackwatch # the first report must not pay for it
	@touch $(READY)

.PHONY: run
run: setup ## make a station in ./station and run it; Ctrl-C ends it
	@$(BIN)/crackwatch init $(STATION)
	@echo
	@exec $(BIN)/crackwatch run --config $(STATION)/config.toml

.PHONY: demo
demo: setup ## watch a station judge drawn concrete, truth beside verdict
	@$(BIN)/python -m crackwatch.demo

.PHONY: test
test: setup ## every test but the slow ones, and at least 85 % of the lines
	@$(BIN)/python -m pytest -n auto --dist loadgroup --cov -m "not slow" $(ARGS)

.PHONY: check
check: setup ## what CI runs: format, lint, types, then the tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory test

# N times the examples of an ordinary run; SEED=K draws the same ones again
.PHONY: fuzz
fuzz: setup ## hostile files and words at length: make fuzz N=500, SEED=7 for the same again
	@CRACKWATCH_FUZZ=$(if $(filter file,$(origin N)),50,$(N)) $(BIN)/python -m pytest -n auto --timeout 7200 \
	    $(if $(SEED),--hypothesis-seed=$(SEED)) tests/hostile $(ARGS)

.PHONY: acceptance
acceptance: setup ## minutes of real photographs: delay, memory, counts, with their figures
	@$(BIN)/python -m pytest -n0 -s -m slow $(ARGS)

.PHONY: faults
faults: setup ## ten minutes of kills, errors and power cuts; FAULTS=--long for all of them
	@$(BIN)/python -m tests.faults $(FAULTS)

.PHONY: mutants
mutants: setup ## 100 small faults in the code, each of which a test must notice; takes hours
	@$(BIN)/python -m tests.faults.mutants $(ARGS)

.PHONY: bench
bench: setup ## the notebook's way against crackwatch's, on the same pictures
	@$(BIN)/python benchmarks/run.py --count $(N) $(if $(PICTURES),--pictures $(PICTURES)) $(ARGS)

.PHONY: wheel
wheel: setup ## build the wheel into dist/
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist .

.PHONY: lock
lock: ## write both lock files anew from pyproject.toml
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory setup
	@$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-annotate -q $(UPGRADE) -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-annotate -q $(UPGRADE) -o requirements-dev.lock

.PHONY: clean
clean: ## remove what was built or cached; .venv and stations stay
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find crackwatch migrations tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
