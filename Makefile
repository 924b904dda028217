# Everything here makes its own environment first: Python 3.10 or newer and make are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   a web service and a batch job ship events, and the counts are compared"
	@echo "make test   the whole test suite"
	@echo "make lint   ruff and the strict type checker"
	@echo "make docs   the documentation, into site/"
	@echo "PYTHON=python3.12 VENV=.venv-3.12 choose another interpreter and environment"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[collector]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --quiet --strict

clean:
	rm -rf .venv* site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
