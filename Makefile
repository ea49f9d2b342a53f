# Every command a person or a machine needs; `make` alone lists them. Needs Python 3.11 or newer with venv, and nothing else.

VENV := .venv
BIN := $(VENV)/bin
# What a command is given beside its defaults: make test ARGS='tests/models -x'
ARGS =

# The pages' scripts and styles: what they are built from, and the file that is written last.
PAGES := service/dashboard
PAGES_FROM := $(wildcard $(addprefix $(PAGES)/,islands/*.* islands/*/*.* styles/*.css text/*.json *.json build.* .npmrc))
BUILT := $(PAGES)/assets/built/manifest.json

# What the image is for: cpu or cuda.
TARGET = cpu

# Only what is said on make's own command line is passed on: some shells export HOST with another meaning.
SERVE = $(if $(filter command,$(origin HOST)),--host $(HOST)) $(if $(filter command,$(origin PORT)),--port $(PORT))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup assets run test check bench image clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/runtime.stamp $(BUILT) ## make .venv, install what the service needs and build the pages

assets: $(BUILT) ## build what the pages load (takes Node from PyPI where there is none)

run: $(VENV)/runtime.stamp $(BUILT) ## serve the API and the dashboard (PORT=8000 HOST=127.0.0.1)
	@$(BIN)/undercurrent serve $(SERVE) $(ARGS)

# A file's tests stay in one process, since they share what they serve; more than four processes of torch would eat a small machine's memory.
# A wait that ran out on a busy machine is waited for once more, and told; whatever else fails has failed.
PATIENCE = --reruns 1 --only-rerun 'it never came|never true|still (queued|running)|did not start|[Tt]imeout|timed out'

test: $(VENV)/dev.stamp $(BUILT) ## run every test this machine can run, with coverage, a process a core
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope $(PATIENCE) --cov --cov-config=pyproject.toml $(ARGS)

check: $(VENV)/dev.stamp ## format, lint, import contracts, types, stale files, version
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	sh $(PAGES)/build.sh $(BIN)/python check
	$(BIN)/undercurrent openapi --check
	$(BIN)/undercurrent asyncapi --check
	$(BIN)/python -m pytest -q tests/test_house.py -k changelog

bench: $(VENV)/dev.stamp ## measure the numbers of the README on this machine
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks $(ARGS)

image: ## build the container image (TARGET=cpu or cuda; ARGS='--build-arg TORCH_INDEX=URL of CPU wheels' makes it small)
	docker build --target $(TARGET) --tag undercurrent:$(TARGET) $(ARGS) .

clean: ## remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache $(PAGES)/node_modules $(PAGES)/assets/built
	find models pipelines service tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BUILT): $(PAGES_FROM) | $(VENV)/pyvenv.cfg
	@sh $(PAGES)/build.sh $(BIN)/python

# The stamps make each step happen once, and again when pyproject.toml changes or .venv is new.
$(VENV)/pyvenv.cfg:
	@set -e; \
	python=$$(command -v python3.11 || command -v python3) || { echo "Undercurrent needs Python 3.11 or newer; no python3 was found." >&2; exit 1; }; \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Undercurrent needs Python 3.11 or newer; $$python is $$("$$python" -c 'import platform; print(platform.python_version())')." >&2; exit 1; }; \
	echo "Making $(VENV) with $$python"; \
	"$$python" -m venv --clear $(VENV) || { \
	  rm -rf $(VENV); echo "$$python cannot make a virtual environment; on Debian and Ubuntu install python3-venv." >&2; exit 1; }

$(VENV)/runtime.stamp: pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing what the service needs (torch is large: some minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[credentials]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/pyvenv.cfg
	@echo "Installing what the service and its tests need (torch is large: some minutes the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[dev]'
	@touch $(VENV)/runtime.stamp $@
