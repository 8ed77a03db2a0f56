# Everything runs in the project's own .venv; nothing outside the checkout is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUESTION ?=
define SAMPLE_QUESTIONS
훈민정음을 만든 임금은 누구인가?
제주도에 있는 한국에서 가장 높은 산은?
첨성대는 어느 왕 때 세워졌나?
endef
export SAMPLE_QUESTIONS

.DEFAULT_GOAL := check
.PHONY: check ask test lint types format docs install install-dev clean

check: lint types test-only ## lint, types and tests (installs what they need)

ask: indexes/sample/manifest.json ## build the bundled sample index if absent and ask: make ask QUESTION="…"
ifeq ($(QUESTION),)
	@echo "$$SAMPLE_QUESTIONS" | $(BIN)/odqa ask --index sample
else
	$(BIN)/odqa ask --index sample "$(QUESTION)"
endif

test: check ## the same as check: what CI runs

install: $(VENV)/.core ## the package with its core dependencies
install-dev: $(VENV)/.dev ## the package with every extra that its tests need

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

.PHONY: test-only
test-only: $(VENV)/.dev
	$(BIN)/python -m pytest

format: $(VENV)/.dev ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## write docs/cli.md and docs/configuration.md from the code
	$(BIN)/python scripts/write_docs.py

indexes/sample/manifest.json: | $(VENV)/.core
	$(BIN)/odqa build-index sample

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.core

clean: ## remove the environment and caches; indexes and runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
