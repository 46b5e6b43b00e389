# Everything a newcomer needs: `make demo` and `make test` set up a virtual environment by themselves.
PYTHON ?= python3
# Each Python has an environment of its own: .venv that of plain `make`, .venv-3.13 that of `make PYTHON=python3.13`.
VERSION = $(or $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'),$(error there is no Python '$(PYTHON)'))
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(VERSION))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two workers leave a fifth of two cores idle.
WORKERS ?= 3

.PHONY: demo test test-quick test-lowest lint format types docs provenance study bench race race-quick clean

demo: $(VENV)/.runtime  ## PETS learns the cartpole swing-up: live progress, a curve, a video
	$(BIN)/foretell train pets/cartpole --out runs/demo --overwrite --video

# Python keeps what it compiles, whatever the shell says: that saves each worker and each process some seconds.
test test-quick: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.dev  ## all tests (five to seven minutes on two idle cores, eight to ten the first time)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow"

test-quick: $(VENV)/.dev  ## all but the long ones
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not slow and not long"

test-lowest: .venv-lowest/.dev  ## the tests of tasks and environments with the lowest versions of gymnasium and mujoco
	.venv-lowest/bin/python -m pytest -m "not slow" tests/tasks tests/envs

lint: $(VENV)/.dev  ## style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the documentation site, in docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

provenance: $(VENV)/.runtime  ## the page of the tables in src/foretell/presets/provenance/
	$(BIN)/python -m foretell.runs.provenance > docs/provenance.md

study: $(VENV)/.runtime  ## the learning study of docs/results/cartpole.md: 10 seeds
	$(BIN)/python benchmarks/study.py pets/cartpole --seeds 10

bench: $(VENV)/.runtime  ## speed against this machine's matrix-multiply rate
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/fit.py
	$(BIN)/python benchmarks/updates.py steve

race: $(VENV)/.runtime  ## beside the peers, which are installed first (gigabytes); goes on where it was
	$(BIN)/python benchmarks/peers/install.py
	$(BIN)/python benchmarks/race.py

race-quick: $(VENV)/.runtime  ## three small workloads as shares of the limit, beside stored values
	$(BIN)/python benchmarks/race.py --quick

clean:
	rm -rf .venv .venv-[0-9]* .venv-lowest docs/_build docs/reference .pytest_cache .hypothesis .mypy_cache .ruff_cache

$(VENV)/.runtime: pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once; a minute or so)"
	$(PYTHON) -c 'import sys; sys.exit("Foretell needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime
	$(PIP) --editable '.[docs]'
	@touch $@

# The versions are the bounds in pyproject.toml. The extra packages of the developers need newer ones.
LOWEST = $(shell sed -n 's/^  "\(gymnasium\)\[mujoco\]>=\([0-9.]*\)".*/\1==\2/p; s/^  "\(mujoco\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml)

.venv-lowest/.dev: pyproject.toml constraints.txt
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	grep -v '^gymnasium=\|^mujoco' constraints.txt > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint .venv-lowest/constraints.txt --editable . $(LOWEST) beartype hypothesis pytest pytest-xdist
	@touch $@
