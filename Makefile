# One command each; everything runs in .venv, made from pinned and hashed requirements.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test test-erp check bench faults screenshots axe lock clean

demo: $(VENV)/.installed
	@$(BIN)/python -P -m hub.demo $(ARGS)

# Three at a time on two cores: much of what they do is waiting for processes.
test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

# Starts a real Odoo and a real Tryton, which .erp (ERP_HOME) keeps for the next time.
test-erp: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n 0 tests/erp $(ARGS)

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n 0 tests/check

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.bench $(ARGS)

# FULL=1 takes the durations of the table of faults, which are hours.
faults: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.faults $(ARGS)

axe: $(VENV)/.installed-dev
	@command -v npm >/dev/null || { echo "There is no npm, which brings axe-core. Install Node.js, or go on without it: its test says that it is left out"; exit 1; }
	@npm install --silent --no-save --no-package-lock --no-audit --no-fund --prefix $(VENV)/axe axe-core@4.14.1

screenshots: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.dashboard.screenshots $(ARGS)

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Install Python 3.11 or newer, or say where it is: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11. Say where a newer one is: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.lock pyproject.toml $(VENV)/.python
	@echo "Installing into $(VENV), once"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

COMPILE := $(BIN)/pip-compile -q --no-header --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

lock: $(VENV)/.installed-dev
	@$(PIP) install pip-tools
	@$(COMPILE) --extra testing -o requirements.lock pyproject.toml requirements.in
	@$(COMPILE) --extra testing --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml requirements.in
	@$(COMPILE) -o tests/erp/odoo.lock tests/erp/odoo.in
	@$(COMPILE) -o tests/erp/tryton.lock tests/erp/tryton.in

clean:
	@rm -rf $(VENV)
