# The same few verbs everywhere. Everything happens in .venv, which is made on demand and refreshed when pyproject.toml changes.

# The first of these that is Python 3.11 or newer; or say it yourself: make test PYTHON=/path/to/python3.12
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check format docs bench models clean

help: ## list these verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.demo ## serve two real models, ask them, print the answers
	@$(BIN)/foretell demo

test: $(VENV)/.dev ## run all tests
	@$(BIN)/python -m pytest

check: $(VENV)/.dev ## format, lint, types, layers, docs
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict
	@$(BIN)/python -m pytest tests/test_layers.py tests/test_docs.py
	@$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev ## put the code in the house's layout
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

bench: $(VENV)/.dev ## measure requests/s over HTTP and rows/s over files
	@$(BIN)/python benchmarks/serve.py
	@$(BIN)/python benchmarks/predict.py
	@$(BIN)/python benchmarks/footprint.py

models: $(VENV)/.examples ## train the two example models again
	@$(BIN)/python examples/threat/train.py
	@$(BIN)/python examples/digits/train.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(VENV)/.made:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "foretell needs Python 3.11 or newer, and '$(or $(PYTHON),python3)' is not: install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@touch $@

# An editable install: a change of the code needs no new one, a change of pyproject.toml does.
$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing foretell into $(VENV) ..."
	@$(PIP) install --editable '.[images]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing foretell and what its tests need into $(VENV) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.examples: $(VENV)/.made pyproject.toml
	@echo "installing foretell and what the examples train with into $(VENV) ..."
	@$(PIP) install --editable '.[examples]'
	@touch $@ $(VENV)/.demo
