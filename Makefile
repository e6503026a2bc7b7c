# Everything happens in .venv, a virtual environment of this folder's own; nothing else on the machine is touched.
# The stamps in it say what has been done, so that a second `make run` starts at once, and a changed
# pyproject.toml or constraints.txt installs again.

.DEFAULT_GOAL := run

# With it every process of the tests would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

# The first Python that is new enough; `make run PYTHON=/path/to/python3.12` names another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

# A virtual environment knows its folder: in a folder that was moved or copied it is made anew.
MOVED := $(shell test -f $(INSTALLED) && test "$$(cat $(INSTALLED))" != "$(CURDIR)" && echo moved)
ifeq ($(MOVED),moved)
$(MADE) $(INSTALLED): FORCE
endif

.PHONY: run install install-dev test check kills serve-check ssh-check wheel-check pictures clean help FORCE

run: $(INSTALLED)  ## Open the app (installs what it needs into .venv first)
	@$(BIN)/minigpt-tui

install: $(INSTALLED)  ## Install into .venv without opening the app
	@echo "installed: $(CURDIR)/$(BIN)/minigpt-tui"

install-dev: $(INSTALLED_DEV)  ## Install into .venv, with what tests and checks need

test: $(INSTALLED_DEV)  ## Run the tests
	$(BIN)/python -m pytest -q -n 4

check: $(INSTALLED_DEV)  ## Run what CI's jobs style and tests do: lint, format, types, import contracts, tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 4

kills: $(INSTALLED_DEV)  ## Kill training runs fifty times at random moments, and see that nothing is lost (minutes)
	$(BIN)/python tests/end_to_end/kill_harness.py 50

# Briefly: make serve-check EXAMPLES=10 LOAD='--seconds 20 --kinds 16'
EXAMPLES ?= 100
LOAD ?= --seconds 60

serve-check: $(INSTALLED_DEV)  ## Ask the server by OpenAI's client, curl and schemathesis, then load it for a minute
	SCHEMA_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -q tests/server
	$(BIN)/python benchmarks/serve.py $(LOAD)
	$(BIN)/python benchmarks/serve.py --blocks 12x768 --tokens 100 --least 6 $(LOAD)

pictures: $(INSTALLED)  ## Draw the pictures of the README anew, from the real app
	$(BIN)/python docs/make_pictures.py

ssh-check: $(INSTALLED_DEV)  ## Reach a worker through a real ssh on loopback (needs OpenSSH's server: sshd)
	@PATH="$$PATH:/usr/sbin:/sbin" command -v sshd >/dev/null || { echo "sshd is not installed;" \
		"on Debian and Ubuntu: sudo apt install openssh-server" >&2; exit 1; }
	$(BIN)/python -m pytest -q tests/end_to_end/test_ssh_loopback.py

wheel-check: $(INSTALLED_DEV)  ## Install the wheel into an empty environment, and use it from another folder (minutes)
	$(BIN)/python tests/end_to_end/wheel_harness.py

clean:  ## Remove .venv, caches and builds; models, runs and texts of yours are elsewhere and stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis \
		.benchmarks snapshot_report.html
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

$(MADE):
	@test -n "$(PYTHON)" || { echo "minigpt-tui needs Python 3.11 or newer, and there is none on the PATH;" \
		"install one, or name it: make run PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "minigpt-tui needs Python 3.11" \
		"or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) comes without venv;" \
		"on Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt | $(MADE)
	@echo "installing into $(VENV): the first time takes minutes, PyTorch is large"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@printf '%s\n' "$(CURDIR)" > $@

$(INSTALLED_DEV): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
