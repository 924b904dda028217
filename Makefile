# Each target creates its own virtual environment first. It only needs make and Python 3.10 or newer.
PYTHON ?= python3
VENV ?= .venv
# The number of processes for the tests; 0 for no extra process. Tests wait a lot, so three suit two cores.
WORKERS ?= 3
BIN := $(VENV)/bin
# What installs packages into $(VENV). .ci/run sets another that is quicker.
INSTALL ?= $(BIN)/pip install --no-compile --disable-pip-version-check
# The tests start hundreds of processes: each finds the modules compiled by the first that imported them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help environment demo test test-fast test-lowest test-frameworks-lowest coverage lint docs reliability loadtest loadtest-full loadtest-guard compatibility clean
.DELETE_ON_ERROR:

help:
	@echo "make demo   a web service and a batch job send events; their counts are compared with the server's"
	@echo "make test   the whole test suite: 5 to 10 minutes on two cores"
	@echo "make test-fast  the quick tests, in about a minute"
	@echo "make coverage   statement and branch coverage, including threads and child processes"
	@echo "make test-lowest  the whole suite with the lowest versions of the dependencies in pyproject.toml"
	@echo "make test-frameworks-lowest  the frameworks' tests with their lowest versions; PYTHON=python3.10"
	@echo "make lint   ruff and the strict type checker"
	@echo "make docs   the documentation, into site/"
	@echo "make environment  install what all of these need"
	@echo "make reliability   the fault tests on each installed Python, into docs/reliability.md"
	@echo "make loadtest        quick load tests of this client and others (minutes); loadtest-full rewrites docs/performance.*"
	@echo "make loadtest-guard  instruction counts against loadtests/baseline.json; needs valgrind"
	@echo "make compatibility   every version of Umami, with faults, into docs/compatibility.*; ARGS='--server FILE'"
	@echo "PYTHON=python3.12 VENV=.venv-3.12 choose another interpreter and environment"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --quiet 'pip>=21.3'  # which knows --editable

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(INSTALL) --quiet --editable '.[collector]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml
	$(INSTALL) --quiet --editable '.[test]'
	@touch $@

$(VENV)/.lint: $(BIN)/python pyproject.toml
	$(INSTALL) --quiet --editable '.[test,lint]'
	@touch $@

$(VENV)/.docs: $(BIN)/python pyproject.toml
	$(INSTALL) --quiet --editable '.[docs]'
	@touch $@

$(VENV)/.loadtest: $(BIN)/python pyproject.toml loadtests/peers.txt
	$(INSTALL) --quiet --editable '.[loadtest]'
	-$(BIN)/python -m loadtests setup
	@touch $@

environment: $(VENV)/.test $(VENV)/.lint $(VENV)/.docs

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(ARGS)

# Coverage makes the tests slower, so their deadlines are longer.
coverage: export UMAMI_TEST_DEADLINE := 180
coverage: $(VENV)/.test
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include 'umami/queue/*' --skip-covered

# The lowest versions of the package's dependencies; the test tools are the newest. ARGS='tests/test_flush.py'
test-lowest: LOWEST = $(VENV)-lowest
test-lowest:
	@mkdir -p $(LOWEST)
	@sed -n '/^dependencies/,/^test/p' pyproject.toml | grep -oE '"[a-z0-9-]+>=[0-9.]+' \
		| sed -e 's/"//' -e 's/>=/==/' > $(LOWEST)/constraints.txt
	PIP_CONSTRAINT=$(abspath $(LOWEST)/constraints.txt) $(MAKE) test VENV=$(LOWEST)

# The lowest versions of the frameworks, whose extras stand in one paragraph; all else is the newest.
test-frameworks-lowest: LOWEST = $(VENV)-frameworks-lowest
test-frameworks-lowest:
	@mkdir -p $(LOWEST)
	@sed -n '/make test-frameworks-lowest/,/^$$/s/^\([a-z]*\) = \["\1>=\([0-9.]*\)"\]$$/\1==\2/p' pyproject.toml \
		> $(LOWEST)/constraints.txt
	PIP_CONSTRAINT=$(abspath $(LOWEST)/constraints.txt) $(MAKE) $(LOWEST)/.test VENV=$(LOWEST)
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal tests/integrations $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --quiet --strict

# The fault tests on each installed Python, two at a time, and the page with their results. The newest Python
# repeats some of them more often.

# How often the test of the spool kills a process, about two seconds each time.
SPOOL_ROUNDS ?= 200

# How many times the program of the test of forks forks.
FORKS ?= 200

# How long each of the two outages in the test of outages takes.
OUTAGE_SECONDS ?= 30

# The number of examples in each test of random values, on the newest Python: 5000 make 155,000 values.
FITTING_EXAMPLES ?= 5000

PYTHONS ?= 3.10 3.11 3.12 3.13
RECORDS := .reliability

reliability:
	rm -rf $(RECORDS)
	$(MAKE) --jobs=2 $(PYTHONS:%=reliability-%)
	$(PYTHON) tests/reliability.py $(RECORDS)/*.json

reliability-%: export OUTAGE_SECONDS := $(OUTAGE_SECONDS)
reliability-%: export EVERY_MOMENT := 1
reliability-3.13: export SPOOL_ROUNDS := $(SPOOL_ROUNDS)
reliability-3.13: export FORKS := $(FORKS)
reliability-3.13: export FITTING_EXAMPLES := $(FITTING_EXAMPLES)
reliability-%:
	@python=$$(ls $$HOME/.pyenv/versions/$*.*/bin/python 2>/dev/null || command -v python$*) || exit 0; \
	$(MAKE) $(VENV)-$*/.test PYTHON=$$python VENV=$(VENV)-$* || exit 1; \
	PYTHONPATH=tests $(VENV)-$*/bin/python -m pytest -q -p reliability --reliability $(RECORDS)/$*.json \
		-o faulthandler_timeout=3600 \
		$$($(PYTHON) tests/reliability.py --tests) || echo "Python $*: the page says what failed."

loadtest: $(VENV)/.loadtest
	$(BIN)/python -m loadtests all --quick

loadtest-full: $(VENV)/.loadtest
	$(BIN)/python -m loadtests all --json loadtests/results/full.json
	$(BIN)/python -m loadtests report --json loadtests/results/full.json

loadtest-guard: $(VENV)/.test
	$(BIN)/python -m loadtests guard $(ARGS)

compatibility: $(VENV)/.test
	$(BIN)/python -m loadtests compatibility $(ARGS)
	$(BIN)/python -m loadtests compatibility --report

clean:
	rm -rf .venv* .reliability site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
