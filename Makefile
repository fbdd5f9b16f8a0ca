# attnbench: every target sets up what it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SWEEP ?= spine
EXPERIMENT ?=
TABLE ?= $(SWEEP)
ARGS ?=
UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help docs verify-results reproduce chaos setup sweep table tables report bench test test-full lint format type sync workspace wandb-sweep lock clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  SWEEP=heads EXPERIMENT=transformer_multi30k TABLE=heads ARGS='trainer.max_steps=1000'"

setup: $(READY) ## install the locked environment into .venv, once

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "attnbench needs Python 3.11 or newer: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "attnbench needs Python 3.11 or newer, and $(PYTHON) is older: make setup PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# Bytecode now, not in the first run of each library: that would take a minute, or each run half of it where none is kept.
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps -e .
	@# torchvision's kernels load only beside the torch they were built for: find out now, not in a run.
	$(BIN)/python -c "import torch, torchvision; print('torch', torch.__version__, 'torchvision', torchvision.__version__)"
	@touch $@

sweep: $(READY) ## train SWEEP (on EXPERIMENT) and print its table; what is finished is not run again
	$(BIN)/attnbench train -m sweep=$(SWEEP) $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(ARGS)

table: $(READY) ## print TABLE from the records there are
	$(BIN)/attnbench table $(TABLE) $(ARGS)

tables: $(READY) ## print the tables of all sweeps that have records
	$(BIN)/attnbench table --all $(ARGS)

verify-results: $(READY) ## render all committed tables and figures again from their records; a difference is an error
	$(BIN)/attnbench verify

reproduce: $(READY) ## train the runs behind the committed TABLE again, and compare each cell
	$(BIN)/attnbench reproduce $(TABLE) $(ARGS)

report: $(READY) ## write one page to compare the runs of SWEEP in, to be opened in a browser
	$(BIN)/attnbench report multirun/$(SWEEP) $(ARGS)

bench: $(READY) ## measure speed and memory, as ratios: ARGS='attention --lengths 64,256' (ARGS=--help)
	$(BIN)/attnbench bench $(ARGS)

test: $(READY) ## the fast tests, with coverage
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term $(ARGS)

test-full: $(READY) ## all tests, the slow ones too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow" --cov --cov-report=term $(ARGS)

chaos: $(READY) ## disturb commands at random and check what they do: ARGS='--seed 1 --rounds 3'
	$(BIN)/python tests/chaos/chaos.py $(ARGS)

lint: $(READY) ## ruff: rules and format
	$(BIN)/ruff check src tests docs
	$(BIN)/ruff format --check src tests docs

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix src tests docs
	$(BIN)/ruff format src tests docs

type: $(READY) ## mypy, strict, on src
	$(BIN)/mypy

sync: $(READY) ## upload the W&B runs that are not at the server (needs `.venv/bin/wandb login` once, and network)
	$(BIN)/attnbench sync $(ARGS)

workspace: $(READY) ## upload SWEEP's W&B runs, and save a W&B workspace that compares them
	$(BIN)/attnbench sync multirun/$(SWEEP) --workspace $(ARGS)

wandb-sweep: $(READY) ## write SWEEP (on EXPERIMENT) as a file for `wandb sweep`, whose agents then run it
	$(BIN)/attnbench wandb-sweep sweep=$(SWEEP) $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(ARGS)

docs: $(READY) ## build the documentation site into site/; a dead link or reference is an error
	$(BIN)/python docs/generate_config_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(READY) ## resolve the newest versions into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --quiet --upgrade --output-file requirements.lock

clean: ## delete the environment and caches; multirun/ and data/ stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .coverage dist
