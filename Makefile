# make demo, make test: all set-up included. PYTHON=python3.12 make test chooses another Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help install demo test crash-test fuzz lint clean

help:
	@echo "make demo     set up, then the whole road on built-in data: gtdnet demo"
	@echo "make test     set up, then the tests"
	@echo "make crash-test  kill the commands at random moments; nothing may be lost or left behind"
	@echo "make fuzz     10,000 damaged files of every kind: read or refused, and what is silent damage"
	@echo "make lint     set up, then ruff, pyright, and whether docs/results.md is what was measured"
	@echo "make install  set up alone: a virtual environment in $(VENV)"
	@echo "make clean    remove the virtual environment and caches"

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) \
	  else f"Python 3.10 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: install
	$(BIN)/gtdnet demo

# One thread per test process: small tensors gain nothing from more.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

crash-test: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/crash_test.py

fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fuzz.py --cases 10000

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python benchmarks/results.py --check

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
