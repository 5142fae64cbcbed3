# make results: set up .venv and run every experiment.  make test: set up .venv and run the whole test suite.
# PYTHON chooses the interpreter, PIP_ARGS goes to pip, ARGS to the experiments, PYTEST_ARGS to pytest.
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
ARGS ?= --all
PYTEST_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_LINT := $(VENV)/.installed-lint

.PHONY: results test lint clean help
.DELETE_ON_ERROR:

results: $(INSTALLED)
	$(BIN)/python -m experiments $(ARGS)

# Processes of one thread each are faster than one of many; the third works while another waits for the browser.
test: $(INSTALLED_TEST)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadscope $(PYTEST_ARGS)

lint: $(INSTALLED_LINT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python lens_utils

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis results/assets
	find results -name '*.html' -delete 2>/dev/null || true
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@echo "make results | test | lint | clean"

# The stamps make the second call quick; a changed pyproject.toml installs again.
$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tinylens needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -e .
	touch $@

$(INSTALLED_TEST): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -e '.[test]'
	touch $(INSTALLED) $@

$(INSTALLED_LINT): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install $(PIP_ARGS) -e '.[test,lint]'
	touch $(INSTALLED) $(INSTALLED_TEST) $@
