# SmartOps: `make run` shows a job end to end, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
ARGS ?=

.PHONY: help setup setup-test run up down test check fix bench chaos docs lock clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## the virtual environment, the pinned packages, the system packages
	@bash scripts/setup.sh

setup-test: ## what the tests need beyond `setup`: MariaDB, servers of other makes
	@bash scripts/setup.sh --test

run: setup ## the main job on embedded defaults, end to end; nothing is left running
	@$(PY) -m smartops try $(ARGS)

up: setup ## the whole system in the background; prints the addresses
	@$(PY) -m smartops up --detach $(ARGS)

down: ## stop what `make up` started
	@$(PY) -m smartops down

test: setup-test ## all tests against real servers (ARGS="-k name" for some)
	@$(PY) -m pytest -n 3 $(ARGS)

check: setup ## ruff, mypy, import-linter, the guards, the docs build
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest -q -p no:cacheprovider tests/test_layout.py
	@$(PY) -m scripts.reference --check
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict --site-dir .cache/site

fix: setup ## format and mend what ruff can mend
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: setup ## the benchmarks, each beside its peer (BENCH=engine for one)
	@$(PY) -m benchmarks $(BENCH)

chaos: setup-test ## kills and outages while jobs run; ends with a table (ARGS="--runs 20")
	@$(PY) -m tests.chaos $(ARGS)

docs: setup ## the generated reference pages, and the site in .cache/site
	@$(PY) -m scripts.reference
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --site-dir .cache/site

lock: ## pin the dependencies again (needs uv)
	@bash scripts/lock.sh

clean: ## remove the virtual environment and caches
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
