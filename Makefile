# Every target works on a fresh machine: the first one that needs it makes a virtual environment of its own.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DURATION ?=
DATA   ?= demo-data
WORKERS ?= 2

.PHONY: demo test check bench bench-anomalies bench-faults fault fault-long lock compose-env image clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   simulated fleet, gateway and lake on this machine (DURATION=60 ends by itself, DATA=dir)"
	@echo "make test   every test that needs no more than this machine has"
	@echo "make check  lint, format, types, layers, fast tests"
	@echo "make bench  benchmarks with a peer in the same run (ONLY=name for one)"
	@echo "make bench-anomalies | bench-faults   score on the Numenta benchmark; recall and false alerts over injected faults"
	@echo "make fault  kill, tear and fill; the oracle compares (fault-long: 200 kills)"
	@echo "make lock   resolve the dependencies again, with hashes"
	@echo "make compose-env | image   passwords and certificates for docker-compose.yml, once; its image"

$(VENV)/.ready: requirements.lock requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "voltgate needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing locked dependencies into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/voltgate demo --data $(DATA) $(if $(DURATION),--duration $(DURATION))

test: $(VENV)/.ready
	@$(BIN)/python -m tests.services.prepare
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

check: $(VENV)/.ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-timing 2>/dev/null || $(BIN)/lint-imports
	@$(BIN)/python -m pytest -n $(WORKERS) tests/unit tests/property tests/contract tests/golden tests/style

bench: $(VENV)/.ready
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

bench-anomalies: $(VENV)/.ready
	@$(BIN)/python -m tests.quality nab

bench-faults: $(VENV)/.ready
	@$(BIN)/python -m tests.quality faults

fault: $(VENV)/.ready
	@$(BIN)/python -m tests.fault --kills 28

fault-long: $(VENV)/.ready
	@$(BIN)/python -m tests.fault --kills 200

lock: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev -o requirements-dev.lock pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements-dev.lock --extra opensearch -o requirements.lock pyproject.toml

compose-env:
	@$(PYTHON) deploy/compose/make_env.py

image:
	docker build --tag voltgate:0.1.0 .

clean:
	rm -rf $(VENV) build demo-data
