# The same few verbs everywhere. Everything happens in .venv, which is made on demand and refreshed when pyproject.toml changes.

# The first of these that is Python 3.11 or newer; or say it yourself: make test PYTHON=/path/to/python3.12
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

VENV := .venv
BIN := $(VENV)/bin
STUBS := foretell/modes/grpc/stubs
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Bytecode is written when a module is first imported: most of what is installed never is.
INSTALL := $(PIP) install --no-compile
unexport PYTHONDONTWRITEBYTECODE

# Clients that cannot live in one environment: each has its own, made by make clients.
CLIENT_VENVS := .venv-clients
RUNTIMES := .venv-runtimes
# The build for CPUs alone, by its local version: the other one is ten times as large.
TORCH := 'torch==2.13.0+cpu' --extra-index-url https://download.pytorch.org/whl/cpu
CLIENTS := $(patsubst tests/clients/%_roundtrip.py,%,$(wildcard tests/clients/*_roundtrip.py))

# What make check runs of the tests: the rest is for make test.
CHECKED := tests/test_layers.py tests/test_docs.py

.DEFAULT_GOAL := help
.PHONY: help demo test soak torch clients runtimes check lint types pages format docs bench models clean

help: ## list these verbs
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.demo ## serve two real models, ask them, print the answers
	@$(BIN)/foretell demo

test: $(VENV)/.dev ## run all tests but those of make check: two files at a time, and those alone that look at the clock
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not clocked' $(CHECKED:%=--ignore %)
	@$(BIN)/python -m pytest -m clocked $$(grep -rlw clocked tests --include='test_*.py')

soak: $(VENV)/.dev ## run the long form of what make test does shortly: drills, swaps, floods
	@SOAK=1 $(BIN)/python -m pytest --timeout 3600 tests/soak tests/optimize/tune tests/jobs/test_killed_workers.py tests/jobs/test_store_model.py -rA

torch: $(VENV)/.made ## bring PyTorch's build for CPUs, so that make test runs what needs it (0.9 GB)
	@echo "installing PyTorch, foretell and what its tests need into $(VENV) ..."
	@$(INSTALL) --retries 1 $(TORCH)
	@$(INSTALL) --editable '.[dev,torch]'
	@touch $(VENV)/.dev $(VENV)/.demo

clients: $(VENV)/.dev $(CLIENTS:%=$(CLIENT_VENVS)/%/.made) ## have the clients of kserve, MLServer and TensorFlow Serving ask (2.4 GB)
	@$(BIN)/python -m pytest tests/clients -rA

runtimes: $(RUNTIMES)/.made ## run the tests of every runtime, those of torch and TensorFlow too (3 GB)
	@$(RUNTIMES)/bin/python -m pytest tests/backends tests/convert tests/test_backends_page.py tests/test_parity.py -rs

check: lint types pages ## format, lint, types, layers, docs; make -j 2 check does two at a time

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy --strict

pages: $(VENV)/.dev
	@$(BIN)/python -m pytest $(CHECKED)
	@$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev ## put the code in the house's layout
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write the generated pages of docs/ anew
	@$(BIN)/python docs/generate.py

bench: $(VENV)/.dev ## measure foretell beside the limit, and what is aimed at (3 minutes)
	@$(BIN)/python benchmarks/run.py

bench-peers: $(VENV)/.dev ## the same beside other servers, into benchmarks/results.md (2.6 GB; 12 + 20 minutes; ROWS='*' for all rows)
	@$(BIN)/python benchmarks/environments.py
	@$(BIN)/python benchmarks/run.py --peers --rows $(patsubst %,'%',$(or $(ROWS),AIMED tiny-json-*-1w)) --out benchmarks

bench-gate: $(VENV)/.dev ## whether the tree is more than 10 % slower than BASE, by default where it left main
	@$(BIN)/python benchmarks/gate.py $(BASE:%=--base %)

bench-files: $(VENV)/.dev ## measure rows/s over files, and how quickly bodies become arrays
	@$(BIN)/python benchmarks/predict.py
	@$(BIN)/python benchmarks/codecs.py

models: $(VENV)/.examples ## train the two example models again
	@$(BIN)/python examples/threat/train.py
	@$(BIN)/python examples/digits/train.py

stubs: $(VENV)/.stubs ## generate the gRPC messages from their .proto files again
	@$(VENV)/stubs/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. $(STUBS)/*.proto
	@sed -i 's/^from google.protobuf import descriptor_pool as/from foretell.modes.grpc.stubs import pool as/' $(STUBS)/*_pb2.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) $(CLIENT_VENVS) $(RUNTIMES) .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(VENV)/.made:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "foretell needs Python 3.11 or newer, and '$(or $(PYTHON),python3)' is not: install it, or name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) \
		|| { echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@$(PIP) install --upgrade pip # that of Python 3.11 takes a minute longer to decide what to install
	@touch $@

$(CLIENT_VENVS)/%/.made: tests/clients/%.txt
	@echo "installing $* into $(CLIENT_VENVS)/$* ..."
	@"$(PYTHON)" -m venv --clear $(CLIENT_VENVS)/$*
	@$(CLIENT_VENVS)/$*/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@test ! -e tests/clients/$*.without-dependencies.txt || $(CLIENT_VENVS)/$*/bin/python -m pip \
		--disable-pip-version-check --quiet install --no-deps --requirement tests/clients/$*.without-dependencies.txt
	@touch $@

$(RUNTIMES)/.made: $(VENV)/.made pyproject.toml
	@echo "installing every runtime into $(RUNTIMES) ..."
	@"$(PYTHON)" -m venv --clear $(RUNTIMES)
	@$(RUNTIMES)/bin/python -m pip --disable-pip-version-check --quiet install $(TORCH)
	@$(RUNTIMES)/bin/python -m pip --disable-pip-version-check --quiet install --editable '.[dev,convert-keras,torch,huggingface]'
	@touch $@

# An editable install: a change of the code needs no new one, a change of pyproject.toml does.
$(VENV)/.demo: $(VENV)/.made pyproject.toml
	@echo "installing foretell into $(VENV) ..."
	@$(INSTALL) --editable '.[images]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "installing foretell and what its tests need into $(VENV) ..."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.examples: $(VENV)/.made pyproject.toml
	@echo "installing foretell and what the examples train with into $(VENV) ..."
	@$(INSTALL) --editable '.[examples]'
	@touch $@ $(VENV)/.demo

# In an environment of its own, and pinned: the oldest compiler of which the runtimes that pyproject.toml allows take the output.
$(VENV)/.stubs: $(VENV)/.made
	@"$(PYTHON)" -m venv $(VENV)/stubs
	@$(VENV)/stubs/bin/python -m pip --disable-pip-version-check --quiet install grpcio-tools==1.74.0
	@touch $@
