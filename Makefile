# The one command file; CI calls the same targets.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEED   ?= 1
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test check fix sim bench docs constraints setup setup-dev clean

demo: setup                ## run a small world for real, print and leave its results
	$(BIN)/groundswell demo

test: setup-dev            ## run every test
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

check: setup-dev           ## style, types, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m groundswell.cli.reference --check
	$(BIN)/groundswell schema --check docs/reference/definitions.schema.json

fix: setup-dev             ## format, and write generated docs anew
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m groundswell.cli.reference
	$(BIN)/groundswell schema > docs/reference/definitions.schema.json

sim: setup-dev             ## one seeded fault simulation: make sim SEED=7
	$(BIN)/groundswell simulate --seed $(SEED)

bench: setup-dev           ## long measurements, written to benchmarks/results/
	$(BIN)/python benchmarks/run.py

constraints: setup-dev     ## pin dependencies anew
	for set in runtime:build dev:dev; do \
	  $(BIN)/uv pip compile pyproject.toml --group $${set#*:} --universal --generate-hashes --no-emit-index-url --no-annotate \
	    --python-version 3.11 --custom-compile-command "make constraints" --upgrade -q -o requirements/$${set%:*}.txt; done

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml
	@test -f $(VENV)/.dev || { echo "setting up $(VENV) (once; two minutes or so)"; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Groundswell needs Python 3.11 or newer; set PYTHON=")' && \
	  $(PYTHON) -m venv $(VENV) && $(PIP) install --require-hashes -r requirements/runtime.txt && \
	  $(PIP) install --no-build-isolation --no-deps -e . ; }
	@$(BIN)/groundswell warm
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) for development (once; two minutes or so)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Groundswell needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@$(BIN)/groundswell warm
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis groundswell-demo
