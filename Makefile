# Every target sets up what it needs, except `make lock`, which wants uv. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest
# Each has a control plane and a PostgreSQL of its own.
PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick coverage hardest torture fuzz bench e2e e2e-full lint format lock controlplane clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --no-deps: the lock is whole. Older pips look for `coverage[toml]` anew, find a later release, and refuse it for want of a hash.
$(READY): requirements-dev.txt pyproject.toml
	@echo "[setup] virtual environment in $(VENV) (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-dev.txt
	@$(BIN)/python -m pip check >/dev/null || { $(BIN)/python -m pip check; exit 1; }
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/striv-receiver.pth"
	@printf '#!/bin/sh\nexec "%s/$(BIN)/python" -m receiver "$$@"\n' "$(CURDIR)" > $(BIN)/receiver && chmod +x $(BIN)/receiver
	@touch $@

demo: $(READY) ## a signed push becomes a PipelineRun, in a real API server (KEEP=1 leaves it running; DEMO_KUBECONFIG=... uses that cluster)
	@$(BIN)/python -m tests.demo

test: $(READY) ## all tests (CI=true: what cannot run fails instead of being skipped)
	@$(BIN)/python -m tests.controlplane build >/dev/null || echo "[setup] goes on without a control plane"
	@$(PYTEST) -m 'not e2e and not e2e_full' --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder $(ARGS)

coverage: ## `make test`, and which lines of the receiver it does not reach; takes half as long again
	@$(MAKE) --no-print-directory test ARGS='--cov --cov-report=term $(ARGS)'

test-quick: $(READY) ## the tests that need no control plane
	@$(PYTEST) -m 'not controlplane and not acceptance and not e2e and not e2e_full' $(ARGS)

hardest: $(READY) ## outages, slow clients and big bodies at full length, with the goals as bounds; for a machine that does nothing else
	@STRIV_FULL=1 $(PYTEST) tests/acceptance/outages/test_cluster_away.py tests/acceptance/hostile_clients tests/acceptance/test_replicas.py \
	  tests/acceptance/test_failover.py tests/acceptance/test_watch_gone.py $(ARGS)

torture: $(READY) ## KILLS=1000: random SIGKILLs under load; nothing acknowledged is lost, nothing runs twice
	@$(BIN)/python -m tests.torture --kills $(or $(KILLS),1000) $(ARGS)

fuzz: $(READY) ## REQUESTS=1000000: generated requests; no 5xx, no uncaught exception, no growth
	@$(BIN)/python -m tests.fuzz --requests $(or $(REQUESTS),1000000) $(ARGS)

bench: $(READY) ## how fast it is, beside the raw ceiling; writes bench/results.json
	@$(BIN)/python -m bench $(ARGS)

e2e: $(READY) ## the pipeline on real pods, short form; the cluster is that of KUBECONFIG
	@$(PYTEST) tests/e2e -m e2e $(ARGS)

e2e-full: $(READY) ## every case on real pods, and the receiver inside the cluster
	@$(PYTEST) tests/e2e tests/e2e_receiver -m 'e2e or e2e_full' $(ARGS)

lint: $(READY) ## style, types, imports
	@$(BIN)/ruff format --check --output-format concise . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --output-format concise .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .lint-imports.log || { cat .lint-imports.log; exit 1; }
	@rm -f .lint-imports.log
	@echo "lint: all good"

format: $(READY) ## set the code as lint wants it
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

controlplane: $(READY) ## build the control plane of the tests and the demo (etcd, kube-apiserver, Tekton; promtool)
	@$(BIN)/python -m tests.controlplane build

lock: ## write the hash-locked requirements anew from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv, which is not on PATH: pip install uv"; exit 1; }
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command 'make lock' pyproject.toml --group dev -o requirements-dev.txt

clean: ## remove the virtual environment and all caches of this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* demo
