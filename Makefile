# Two commands do all the set-up: `make demo` and `make test`.
# PYTHON, VENV, TORCH and TRITON can be given: make demo TORCH=torch PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TRITON ?= triton==3.7.1
BIN = $(VENV)/bin
# one thread a test process: two processes share the cores
TEST_ENV = OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo test nightly lint eval docs clean

$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core $(wildcard plugins/*/pyproject.toml platforms/*/pyproject.toml)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TRITON)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]" -e plugins/sim \
		-e plugins/triton -e platforms/cuda -e "platforms/rocm[test]"
	@touch $@

demo: $(VENV)/.core
	$(BIN)/python tools/demo.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/inferplane-ci validate

test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 -m "not nightly"

nightly: $(VENV)/.test
	$(TEST_ENV) $(BIN)/python -m pytest -n 2

eval: $(VENV)/.core
	$(BIN)/inferplane eval arithmetic --device cpu --at-least 0.99

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	@touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) dist build site
