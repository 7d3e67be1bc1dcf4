# Everything runs in a virtual environment that the targets make themselves.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

PYTHONS ?= 3.11 3.12 3.13

.PHONY: quickstart test test-slow test-tfio test-pythons lint format clean

# What running serzoo needs; the quickstart and the tests' installation below share the environment.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@echo "Installing serzoo and TensorFlow into $(VENV); the downloads are about 700 MB."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# The same and all extras, with the tools that check the code.
$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing all extras and the development tools into $(VENV)."
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

quickstart: $(VENV)/installed
	@$(BIN)/python examples/quickstart.py
	@echo "Next: $(BIN)/serzoo predict YOUR.wav, $(BIN)/serzoo list, README.md"

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow
	KERAS_BACKEND=jax JAX_PLATFORMS=cpu JAX_COMPILATION_CACHE_DIR=$(VENV)/compiled-by-jax $(BIN)/python -m pytest -n 2 --dist worksteal -m jax

# tensorflow-io loads on TensorFlow 2.16 only, so its route is tested in an environment of its own.
.venv-tfio/installed: setup.cfg pyproject.toml constraints-tfio.txt
	$(PYTHON) -m venv .venv-tfio
	.venv-tfio/bin/pip install --quiet --disable-pip-version-check -c constraints-tfio.txt -e ".[tfio]" hypothesis pytest
	touch $@

test-tfio: .venv-tfio/installed
	.venv-tfio/bin/python -m pytest tests/integration/test_tfio.py

# Install serzoo as users do, on each Python and with the lowest versions that setup.cfg allows, and use it.
test-pythons:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/pip install --quiet --disable-pip-version-check uv
	set -e; for python in $(PYTHONS) lowest; do \
	  version=$$python; resolution=highest; \
	  if [ $$python = lowest ]; then version=$(firstword $(PYTHONS)); resolution=lowest-direct; fi; \
	  .venv-uv/bin/uv venv --quiet --clear --python $$version .venv-$$python; \
	  .venv-uv/bin/uv pip install --quiet --python .venv-$$python --resolution $$resolution .; \
	  TF_CPP_MIN_LOG_LEVEL=3 .venv-$$python/bin/python tests/installation.py; \
	done

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info
