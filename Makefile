# Everything runs in .venv, made from requirements-dev.lock. ARGS goes to the program: make demo ARGS="--duration 20"

SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/ready
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input
ARGS ?=
# Test processes side by side; JOBS=0 runs the tests in one, in order.
JOBS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup demo check test servers bench soak lock clean venv

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)$$/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '  make %-8s %s\n' "$$target" "$$text"; done

setup: $(READY) ## make .venv from the lock (again only when a lock or pyproject.toml changed)
	@:

demo: setup ## run everything embedded: broker, simulated fleet, pipeline, store (ARGS="--headless --json --duration 20")
	@$(VENV)/bin/tocsin demo $(ARGS)

check: setup ## format, lint, types and the fast tests: seconds
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n $(JOBS) -m "not integration and not slow" $(ARGS)

test: setup servers ## every test, against real servers too: minutes
	$(VENV)/bin/pytest -n $(JOBS) $(ARGS)

servers: ## install the Debian packages of the servers that the integration tests start (root or sudo)
	@sh tests/servers.sh || { status=$$?; test $$status -eq 3 && test "$$CI" != true && \
		echo "servers: going on; the tests that need a missing server will be skipped" >&2; }

bench: setup ## measure throughput and latency on this machine: minutes (ARGS="--only query")
	@$(VENV)/bin/python -m tests.bench.run $(ARGS)

soak: setup ## ten million readings with one sink down: is memory flat, does it catch up exactly? (minutes)
	@$(VENV)/bin/python -m tests.soak $(ARGS)

lock: venv ## write both locks anew from pyproject.toml, keeping what is pinned (ARGS=--upgrade: newest versions)
	@$(VENV)/bin/python -c 'import uv' 2>/dev/null || $(PIP) install uv
	$(call LOCK,requirements.lock,--group build)
	$(call LOCK,requirements-dev.lock,--group dev --constraints requirements.lock)

# Hashes of every wheel, so that one lock serves all processors and Python versions; no word on where it came from.
define LOCK
@echo "lock: $(1)"
@$(VENV)/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --no-emit-index-url --no-emit-find-links $(2) $(ARGS) --output-file $(1) pyproject.toml >/dev/null
endef

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock requirements-dev.lock pyproject.toml
	@$(MAKE) --no-print-directory venv
	@echo "setup: installing the locked packages into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "setup: done"

# Debian keeps ensurepip, without which a venv has no pip, in a package of its own.
venv:
	@if $(VENV)/bin/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "setup: $(PYTHON) is missing or older than 3.11; name another: make setup PYTHON=python3.12" >&2; exit 1; \
	fi; \
	if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
		package=python3-venv; \
		install="apt-get update -qq && apt-get install -y -qq --no-install-recommends $$package"; \
		if ! command -v apt-get >/dev/null 2>&1; then \
			echo "setup: $(PYTHON) cannot make environments; install its venv and ensurepip modules" >&2; exit 1; \
		elif [ "$$(id -u)" -eq 0 ]; then become=; \
		elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then become=sudo; \
		else echo "setup: $$package is missing; as root: apt-get install $$package. Then: make setup" >&2; exit 1; \
		fi; \
		echo "setup: installing Debian's $$package$${become:+ with sudo}"; \
		$$become env DEBIAN_FRONTEND=noninteractive sh -c "$$install" >/dev/null </dev/null || exit 1; \
	fi; \
	echo "setup: making $(VENV)"; \
	$(PYTHON) -m venv --clear $(VENV)
