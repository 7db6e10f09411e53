# `make demo` and `make test` prepare everything they need; see scripts/setup.sh.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-detectron2 lint format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## system libraries where missing and permitted, .venv, the program in it
	@bash scripts/setup.sh

demo: setup ## a sample reef from photographs to 3D, into demo-output/
	@bash scripts/demo.sh $(DEMO_ARGS)

test: setup ## style, types, rooms, manifest and tests
	@bash scripts/check.sh $(PYTEST_ARGS)

test-detectron2: setup ## the tests that compare with native detectron2, which is fetched once
	@.venv/bin/pytest -q -m detectron2 $(PYTEST_ARGS)

lint: setup ## the checks without the tests
	@bash scripts/check.sh --no-tests

format: setup ## put the code into the project's style
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean: ## remove what the tools leave behind; .venv stays
	rm -rf demo-output build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
