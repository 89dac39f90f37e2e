# Needs make and Python 3.11 or newer, nothing else. `make` alone lists the targets.

VENV := .venv
BIN := $(VENV)/bin
# One worker more than there are cores: tests that wait for a server or a process leave a core idle.
PARALLEL := -n $(shell python3 -c 'import os; print((os.cpu_count() or 1) + 1)' 2>/dev/null || echo 3) --dist worksteal
LOCKED := --quiet --require-hashes --disable-pip-version-check

# The first Python that runs and can create a venv: a name on the PATH may be a version manager's stub that does neither.
PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3 python3.14 python; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$python"; break; }; done)

.PHONY: help demo sync test test-quick test-long test-postgres citus extended fuzz chaos simulate fleet lake mutants bench backtest lint docs reference screenshot lock wheel clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.runtime ## sandbox, sync, status and a first query in a throw-away place; no key needed
	$(BIN)/anticaptcha-etl demo

sync: $(VENV)/.runtime ## bring the warehouse up to date; the key is in ANTICAPTCHA_CLIENT_KEY
	$(BIN)/anticaptcha-etl sync

test: $(VENV)/.dev ## every test but the long ones
	$(BIN)/pytest $(PARALLEL)

test-quick: $(VENV)/.dev ## the tests that take seconds
	$(BIN)/pytest $(PARALLEL) -m 'not slow and not long and not extended'

test-long: $(VENV)/.dev ## the same promises over many more histories; half an hour
	$(BIN)/pytest $(PARALLEL) -m long

test-postgres: $(VENV)/.dev ## every promise of the contract on a PostgreSQL server, which it starts for itself; ten minutes
	$(BIN)/pytest $(PARALLEL) -m server

citus: $(VENV)/.dev ## the same on a Citus cluster of three servers, which it builds, and what only a cluster can suffer; CITUS_SOURCE=PATH for an archive
	TEST_ON_CITUS=1 $(BIN)/pytest $(PARALLEL) -m server
	$(BIN)/pytest -m citus
	TEST_ON_CITUS=1 $(BIN)/python -m tests.chaos.fleet

extended: $(VENV)/.dev $(VENV)/.audit ## the tests that need a browser, Java or Superset, which it installs for itself, and the audit of the locks; says what it had to skip
	$(BIN)/pytest -m extended

fuzz: $(VENV)/.dev ## a million hostile answers, and 100,000 settings files, journals and queries; DOORS="sql" for some, FUZZ=n for n, SEED=n to repeat a run
	$(BIN)/python -m tests.fuzz $(DOORS) $(if $(FUZZ),--count $(FUZZ)) $(if $(SEED),--seed $(SEED))

KILLS ?= 200

chaos: $(VENV)/.dev ## 200 kills at random moments of all that writes, and what was lost; some minutes; KILLS=n for n, SEED=n for others
	$(BIN)/python -m tests.chaos.kills $(KILLS) $(if $(SEED),--seed $(SEED))

MUTANTS ?= 450

mutants: $(VENV)/.dev ## 450 small mistakes put into copies of the program, and those that no test notices; an hour or less; MUTANTS=n for n, SEED=n for others
	$(BIN)/python -m tests.mutants.run $(MUTANTS) $(if $(SEED),--seed $(SEED))

YEARS ?= 20
STORE ?= memory

simulate: $(VENV)/.dev ## years of nights under virtual time, with faults and kills, over all cores; YEARS=n for n, STORE=duckdb for a real file, SEED=n to repeat a run (today's date otherwise)
	$(BIN)/python -m tests.simulator --years $(YEARS) --store $(STORE) $(if $(SEED),--seed $(SEED))

fleet: $(VENV)/.dev ## 200 accounts into one PostgreSQL by four processes, one killed now and then, and whether all are exact; ten minutes
	$(BIN)/python -m tests.chaos.fleet

lake: $(VENV)/.dev ## 200 accounts shipped to a lake on an S3 stand-in by eight processes, night after night, 100 times one is killed; SEED=n for others
	$(BIN)/python -m tests.chaos.lake $(if $(SEED),--seed $(SEED))

BENCH ?=

backtest: $(VENV)/.dev ## anomalies, forecast and runway over generated account-years, and late corrections of 500 accounts; half an hour
	$(BIN)/python -m tests.backtest
	$(BIN)/python -m tests.backtest.ahead
	$(BIN)/python -m tests.backtest.spot_checks

bench: $(VENV)/.dev ## what work costs, as ratios to a floor or to other tools (which it installs for itself); more than an hour; BENCH="NAME..." for some, BENCH=--short for small, BENCH=--table for the last results
	$(BIN)/python -m benchmarks $(BENCH)

lint: $(VENV)/.dev ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.docs ## the documentation as a web site in site/; warnings, such as broken links, are errors
	NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs build --strict

reference: $(VENV)/.dev ## write the generated parts of docs/reference again
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.json_schemas
	$(BIN)/python -m tools.superset_bundle

screenshot: $(VENV)/.dev ## take docs/images/report.png again, from the demo's report; needs Chromium and its driver
	$(BIN)/python -m tools.screenshot

wheel: $(VENV)/.dev ## dist/*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

UV ?= uv
PIN := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --annotation-style line pyproject.toml

lock: ## resolve the dependencies anew, with hashes, for every platform and Python 3.11 and newer; needs uv
	$(PIN) --group build --output-file requirements.lock
	$(PIN) --group build --group dev --constraint requirements.lock --output-file requirements-dev.lock
	$(subst  pyproject.toml,,$(PIN)) --group pyproject.toml:audit --output-file requirements-audit.lock
	$(subst  pyproject.toml,,$(PIN)) --group pyproject.toml:docs --output-file requirements-docs.lock

clean: ## remove what was made here, warehouses excepted
	rm -rf $(VENV) $(VENV)-* dist build site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo 'No Python 3.11 or newer that can make a virtual environment was found (Debian, Ubuntu: apt install python3-venv).' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The package is installed in editable mode, so only changed metadata requires a new installation.
$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	$(BIN)/python -m pip install $(LOCKED) -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# In a separate environment, so that the auditor's own dependencies are not audited.
$(VENV)/.audit: $(VENV)/.made requirements-audit.lock
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install $(LOCKED) -r requirements-audit.lock
	@touch $@

$(VENV)/.docs: $(VENV)/.made requirements-docs.lock
	$(BIN)/python -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install $(LOCKED) -r requirements-docs.lock
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/python -m pip install $(LOCKED) -r requirements-dev.lock
	@touch $@
