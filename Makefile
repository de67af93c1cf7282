# Everything is installed into .venv, from this project's own files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-large test-oldest check format docs clean

help:
	@echo "make demo        pretrain on handwritten digits, evaluate, export (about two minutes)"
	@echo "make test        the test suite"
	@echo "make test-large  also the tests that take minutes"
	@echo "make test-oldest the test suite with the oldest versions that are supported"
	@echo "make check       lint, format and types"
	@echo "make format      reformat the code"
	@echo "make docs        build the documentation site into site/"

demo: $(VENV)/installed
	$(BIN)/keras-ssl demo

# A file's tests share models that took seconds to make, and stay in one process.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: $(VENV)/installed
	$(PYTEST)

test-large: $(VENV)/installed
	$(PYTEST) --large

# The lower bounds in pyproject.toml. The oldest Python has packages of all of them.
OLDEST := .venv-oldest

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest --numprocesses 2 --dist loadfile

$(OLDEST)/installed: pyproject.toml
	python3.11 -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet uv
	$(OLDEST)/bin/uv pip install --quiet --python $(OLDEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	@touch $@

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Python 3.11 to 3.13 is needed (TensorFlow has no other). Received: %s. Name another with: make PYTHON=python3.12" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(OLDEST) build site *.egg-info .pytest_cache .ruff_cache .mypy_cache
