# Every task does its own set-up: the virtual environment in .venv and, where servers are needed, deploy/provision.sh.

.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.complete
PACKAGES := flows dataflow recovery
# How many test processes; each has servers of its own (about 1 GB together) and waits for them half of the time.
JOBS ?= 3

# Tests start processes by the hundred: without compiled modules each of them would compile Rowback anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo bench test soak differential campaign lint format venv provision kernels docs clean

help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) provision kernels ## the main job on real servers: back up, break, undo, restore, compare (under 2 minutes)
	$(BIN)/python deploy/demo.py

test: $(STAMP) provision kernels ## the whole test suite, with real servers (ARGS="-k name" narrows it, JOBS=4 widens it)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder $(ARGS)

soak: $(STAMP) provision kernels ## random tables, and bent row events by the hundred thousand (hours)
	ROWBACK_CAMPAIGN=1 ROWBACK_PROPERTY_TABLES=$${ROWBACK_PROPERTY_TABLES:-300} ROWBACK_FUZZ_ROUNDS=$${ROWBACK_FUZZ_ROUNDS:-300000} \
	  $(BIN)/python -m pytest -s --timeout 7200 tests/test_charset.py tests/test_row_properties.py $(ARGS)

differential: $(STAMP) provision kernels ## 200 restores through random DDL beside a replica, on each of MySQL, MySQL with native foreign keys, MariaDB; prints counts (an hour; ROWBACK_DDL_SEED=n for another life)
	ROWBACK_DDL_STEPS=$${ROWBACK_DDL_STEPS:-1300} $(BIN)/python -m pytest -s --timeout 7200 tests/test_restore_ddl.py $(ARGS)

campaign: $(STAMP) provision kernels ## the fault suite at length: many more kills, a transaction of 1 GB, the store away for a minute, twice the oracle (long)
	ROWBACK_CAMPAIGN=1 ROWBACK_TEST_AWAY_S=$${ROWBACK_TEST_AWAY_S:-60} \
	  $(BIN)/python -m pytest -s --timeout 3000 --durations=0 tests/test_faults_*.py tests/test_capture_spool.py tests/test_oracle.py $(ARGS)

bench: $(STAMP) provision kernels ## how fast capture and restores are, beside mysqlbinlog, mysql-replication and a replay (ARGS="--scale 0.1" for less; see docs/BENCHMARKS.md)
	$(BIN)/python deploy/bench.py $(ARGS)

lint: $(STAMP) ## what CI runs: ruff, its formatter's check, and mypy in strict mode
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)

format: $(STAMP) ## let ruff rewrite the files: order of imports, simple fixes, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: $(STAMP) ## the virtual environment with the exact packages of constraints.txt
provision: ## MySQL, MariaDB and mydumper for tests and demo, cached outside the repository
	@deploy/provision.sh

kernels: $(STAMP) ## compile the decode kernels into Numba's cache (NUMBA_CACHE_DIR), once
	@$(BIN)/python -m dataflow.kernels.warm

docs: $(STAMP) ## write docs/CONFIG.md again from the settings
	$(BIN)/python -m recovery.config_table docs/CONFIG.md

clean: ## remove the virtual environment and the tools' caches (the server cache stays: see deploy/provision.sh)
	rm -rf .venv .venv.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find $(PACKAGES) deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt deploy/venv.sh
	@deploy/venv.sh
	@touch $@
