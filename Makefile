# Handrail. `make` lists what there is; every target prepares what it needs.
.DEFAULT_GOAL := help
PY := .venv/bin/python
SHELL := /bin/sh

.PHONY: help setup console demo stack test sim torture torture-long skew check lint format members bench bench-compare bench-pair bench-sse soak grow lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup:  ## Install everything that development needs into .venv (hashed, about 10 s)
	@tools/setup.sh dev

console:  ## Build the operator console, once (Node.js 20.19+, else one from PyPI)
	@tools/setup.sh runtime
	@tools/console.sh

demo:  ## Run the whole system in this terminal: nothing but Python 3.11+ is needed
	@tools/setup.sh runtime
	@tools/console.sh
	@exec .venv/bin/handrail up --demo

stack:  ## Run the services as processes on a real Kafka (needs Java 17+ and Maven)
	@tools/setup.sh runtime
	@tools/console.sh
	@exec .venv/bin/handrail stack

tests/strangers/node_modules: tests/strangers/package-lock.json
	@command -v npm >/dev/null 2>&1 && npm ci --prefix tests/strangers --no-audit --no-fund --silent || echo "no npm here: strangers' clients are not tried"

test: setup tests/strangers/node_modules  ## Run every test that this machine can run, and name what it skips (at most 15 minutes)
	@tools/console.sh
	@tools/tests.sh test

SEEDS ?= 500
FIRST ?= 1
sim: setup  ## Play the whole engine by seed on simulated time, bus and store: SEEDS=500 FIRST=1
	$(PY) -m tests.torture.sim --seeds $(SEEDS) --first $(FIRST)

torture: setup  ## The long proofs: kills, races, simulation (at most 40 minutes)
	@tools/console.sh
	@tools/tests.sh torture

torture-long: setup  ## The long proofs for a night: more seeds, more kills
	@HANDRAIL_TORTURE=long tools/tests.sh torture 36000

skew: setup  ## An older version beside this one under load, exchanged every ten seconds: OLD=<commit>
	$(PY) -m tests.torture.version_skew --old $(or $(OLD),$(error Expected the older version, as in: make skew OLD=HEAD~20))

check: lint members test  ## What CI runs, without the long proofs

lint: setup  ## Formatting, lint, strict types, who may import whom
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright
	.venv/bin/lint-imports --no-cache

format: setup  ## Format and fix what can be fixed
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

members: setup  ## Install each member alone and import its bootstrap: finds undeclared dependencies
	tools/members.sh

bench: setup  ## W1-W7: WORKLOAD=diamond,chain10,resume,fanout,big,accept,rehydrate ON=stack,embedded (defaults: the first two on both)
	$(PY) -m benchmarks.run $(if $(WORKLOAD),--workloads $(WORKLOAD)) $(if $(ON),--on $(ON)) $(BENCH)

bench-compare: setup  ## Ours, Restate, LangGraph and DBOS in turn, one ratio per figure (QUICK=1: Restate alone, three minutes)
	$(PY) -m benchmarks.compare $(BENCH)

bench-pair: setup  ## This tree beside an older one, both up at once and driven in turn: OLD=<commit>
	$(PY) -m benchmarks.pair --old $(or $(OLD),$(error Expected the older version, as in: make bench-pair OLD=HEAD~5)) $(BENCH)

soak: setup  ## 1,000 node executions per second for MINUTES=5: rate, flat memory, age of events, dead rows
	$(PY) -m benchmarks.soak

grow: setup  ## Nodes per second, lists and searches with WORKFLOWS=1000000 finished ones and 10,000 open pauses
	$(PY) -m benchmarks.grow

bench-sse: setup  ## The live view beside nginx + nchan and a sse-starlette loop, herd, projection, GET state (3 minutes)
	$(PY) -m benchmarks.sse.run

lock:  ## Write the hashed requirement locks anew
	@tools/lock.sh

clean:  ## Remove what builds and tests leave behind (not your data in .handrail)
	rm -rf .pytest_cache .ruff_cache .hypothesis build dist artefacts
