# make demo, make test: all set-up included. PYTHON=python3.12 make test chooses another Python.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help install demo test crash-test fuzz lint docs lock clean

help:
	@echo "make demo     set up, then the whole road on built-in data: gtdnet demo"
	@echo "make test     set up, then the tests"
	@echo "make crash-test  kill the commands at random moments; nothing may be lost or left behind"
	@echo "make fuzz     10,000 damaged files of every kind: read or refused, and what is silent damage"
	@echo "make lint     set up, then ruff, pyright, and whether docs/results.md is what was measured"
	@echo "make docs     set up, then docs/ as a site in build/site; a broken link is an error"
	@echo "make install  set up alone: a virtual environment in $(VENV)"
	@echo "make CPU=1 install  (or demo, test, ...) with PyTorch's CPU build, not several GB of CUDA"
	@echo "make lock     requirements.lock for what pyproject.toml asks now, by uv"
	@echo "make clean    remove the virtual environment and caches"

install: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) \
	  else f"Python 3.10 to 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
ifdef CPU
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $<)" \
	  --index-url https://download.pytorch.org/whl/cpu
endif
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

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html"

# Versions stay where they can. What CUDA's torch brings is left out: the CPU build has none of it.
lock:
	uv pip compile pyproject.toml --universal --python-version 3.10 --extra export --extra tensorboard \
	  --extra serve --extra parquet --extra docs --extra dev --constraint requirements.lock \
	  --no-annotate --no-header --quiet > lock.new
	(grep '^#' requirements.lock; grep -vE '^(nvidia-|cuda-|triton)' lock.new) > lock.whole
	mv lock.whole requirements.lock && rm lock.new

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
