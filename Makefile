# Everything starts here: `make help`.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help env run ui report doctor test test-nodes test-ci test-slow lint audit bench lock clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/ready ## the environment, from the lock file (other targets call it)

.venv/ready: requirements.lock bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python {v[0]}.{v[1]} does not fit: name one of 3.11 to 3.13, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement bootstrap.lock
	@echo "installing the locked packages into .venv (the first time: minutes)"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --build-constraints bootstrap.lock --compile-bytecode requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q components pipelines
	$(BIN)/python -c 'from pipelines.reports import plots; plots.write_template()'
	@touch $@

run: env ## the flagship: what has changed runs on a local Ray cluster, then a summary
	@$(BIN)/trainyard run

ui: env ## MLflow's pages on this machine, with links that open the runs' charts
	@$(BIN)/trainyard ui

report: env ## write reports/index.html again
	@$(BIN)/trainyard report

doctor: env ## is everything here? each problem with its remedy
	@$(BIN)/trainyard doctor

test: env ## the tests
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test-nodes: env ## the tests that lose and add nodes, and those of a team's services
	$(BIN)/python -m pytest -m nodes

test-ci: env ## both in one run of three processes, two of which mostly wait for clusters
	$(BIN)/python -m pytest -n 3 --no-loadscope-reorder -m 'not slow'

test-slow: env ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

lint: env ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env ## every figure in RESULTS.md that is a ratio or a time (takes hours; leave the machine idle otherwise)
	$(BIN)/python -m benchmarks

RESOLVE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

lock: ## resolve all three lock files again, with the newest versions
	$(RESOLVE) pyproject.toml --all-extras --upgrade --output-file requirements.lock
	$(RESOLVE) pyproject.toml --extra team --constraint requirements.lock --upgrade --output-file infra/image.lock
	printf 'uv\nsetuptools\nwheel\n' | $(RESOLVE) - --constraint requirements.lock --upgrade --output-file bootstrap.lock

audit: ## look for known vulnerabilities of the locked packages (--strict: what cannot be looked up is a failure)
	$(BIN)/pip-audit --strict --disable-pip --progress-spinner off --requirement requirements.lock --requirement bootstrap.lock

clean: ## remove what runs leave behind; results, tracking and the environment stay
	rm -rf .trainyard build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
