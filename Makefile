# Everything a developer or an operator starts from a fresh checkout; `make` alone lists it.
# Needs Python 3.11 or newer with venv (Debian: python3-venv); all else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
SOURCES := ecpds tests benchmarks docs
WORKERS ?= 3

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore

.DEFAULT_GOAL := help
PICTURES ?= build/pictures

.PHONY: help venv run check test conformance crash browser cover docs site pictures package \
	binary deb bench fuzz \
	lint format ci peers clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer with venv is needed (Debian: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing ecpds into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-tools: $(VENV)/.installed
	@echo "installing the tools of tests and lint into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@touch $@

venv: $(VENV)/.installed-tools ## create .venv with ecpds, the test and the lint tools

run: $(VENV)/.installed ## start the daemon with ecpds.toml; installs it first if needed
	@exec $(BIN)/ecpds serve --config ecpds.toml

peers:
	@bash tests/install-peers.sh

check: lint ## lint, unit and property tests: under a minute
	@$(PYTEST) -q tests/unit tests/property

test: venv peers ## every test, against real servers and clients (as root they are installed)
	@$(PYTEST) -n $(WORKERS) --dist loadscope $(ARGS)

conformance: venv peers ## modules against real servers, portals against real clients
	@$(PYTEST) -n $(WORKERS) --dist loadscope -p ecpds.conformance.results \
		--conformance-page docs/conformance.md tests/conformance $(ARGS)

crash: venv ## kill the daemon everywhere, restart, look
	@$(PYTEST) tests/crash $(ARGS)

browser: venv peers ## the dashboard in headless Chromium
	@$(PYTEST) tests/browser $(ARGS)

cover: venv peers ## branch coverage of everything but crash and browser tests
	@$(BIN)/python -m pip install --quiet coverage
	@$(BIN)/python -m coverage run --branch --source ecpds -m pytest -q \
		--ignore tests/crash --ignore tests/browser $(ARGS)
	@$(BIN)/python -m coverage report --skip-covered --sort cover

docs: venv ## write docs/reference and docs/man from the declarations in the code
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m docs.manpages

site: venv ## the documents as plain pages in build/site, every link checked
	@$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@$(BIN)/python -m docs.site build/site

pictures: venv peers ## renew the pictures of the documents by the browser tests, then the site
	@rm -rf $(PICTURES) && mkdir -p $(PICTURES)
	@ECPDS_PICTURES=$(abspath $(PICTURES)) $(PYTEST) tests/browser -k "fits" $(ARGS)
	@$(BIN)/python -m docs.site build/site --pictures $(PICTURES)

package: venv ## wheel and sdist into dist/, tried out in an empty environment
	@$(BIN)/python -m pip install --quiet build
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null && ls -l dist
	@$(PYTEST) tests/package $(ARGS)

binary: ## one self-contained executable: dist/ecpds
	@PYTHON=$(PYTHON) bash .ci/binary

deb: ## a Debian package with the systemd unit: dist/ecpds_VERSION_ARCH.deb
	@PYTHON=$(PYTHON) bash .ci/deb

bench: venv peers ## the benchmarks that end in ten minutes, peers interleaved
	@$(BIN)/python -m benchmarks $(ARGS)

fuzz: venv ## a million nearly right packets for the MQTT parser and the broker: some minutes
	@$(BIN)/python -m benchmarks.mqtt_fuzz $(ARGS)

lint: venv ## ruff, mypy (strict), import rules
	@failed=0; \
	for tool in "ruff check $(SOURCES)" "ruff format --check $(SOURCES)" mypy "lint-imports --no-logo"; \
	do $(BIN)/$$tool || { echo "FAILED: $$tool"; failed=1; }; done; exit $$failed

format: venv ## ruff: format and fix what can be fixed
	@$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	@$(BIN)/ruff format $(SOURCES)

ci: ## what runs on a bare machine for every change
	@bash .ci/run

clean: ## remove what was built; .venv and data stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
