# `make help` lists the targets. Works with GNU make 3.81. Each target sets up what it needs.
# ARGS goes to the command: make demo ARGS="--exit --report demo.json"
.DEFAULT_GOAL := help
.PHONY: help setup demo dev up down status doctor test soak bench mutants pictures lint format lock
BIN := .venv/bin
ARGS ?=

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## environment for development, commit hooks
	@scripts/bootstrap dev
	@$(BIN)/pre-commit install >/dev/null 2>&1 || echo "no commit hooks: not a git checkout, or core.hooksPath is set"

demo: run ## everything once, on real services: files -> Kafka -> tables; stays up until Ctrl-C
	@$(BIN)/headrace demo $(ARGS)

dev: run ## the services and `dagster dev`
	@$(BIN)/headrace dev $(ARGS)

up: run ## start Kafka, registry and Postgres
	@$(BIN)/headrace up $(ARGS)

down: run ## stop everything that was started
	@$(BIN)/headrace down $(ARGS)

status: run ## services, workers, lag
	@$(BIN)/headrace status $(ARGS)

doctor: run ## what is wrong with this machine or the services
	@$(BIN)/headrace doctor $(ARGS)

test: tools ## every test, on real services, seeded and small; two processes, each with services of its own
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

soak: tools ## the full fault campaigns
	@HEADRACE_SOAK=1 HEADRACE_ROUNDS=$${HEADRACE_ROUNDS:-20} $(BIN)/pytest --timeout=3600 $(ARGS)

bench: tools ## how fast, and where the time goes
	@$(BIN)/python -m benchmarks $(ARGS)

mutants: tools ## plant known bugs; each must turn a named test red
	@$(BIN)/python -m tests.mutants $(ARGS)

pictures: tools ## take the pictures in docs/images anew, while `make demo` is up; needs chromium
	@$(BIN)/python -m tests.pictures

lint: tools ## format, rules, types, layers, Dagster definitions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@scripts/check-defs

format: tools ## write the format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: tools ## resolve the locks anew (Python and JVM)
	@scripts/lock

.PHONY: run tools
run:
	@scripts/bootstrap run
tools:
	@scripts/bootstrap dev
