# What a developer types. `make help` lists it. Everything is installed inside this folder, nothing outside.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
UV     := $(VENV)/bin/uv
# The SAM command line has an environment of its own: its pins and those of the tests do not agree.
SAM    := .venv-sam/bin/sam
# The demo needs a third of what the tests do.
DEMO   := .venv-demo
# What the Lambda service puts beside a function (runtime client, boto3), and nothing else.
RUNTIME := .venv-runtime/.installed

PY313   := .venv313/bin/python

# Folders that `import provisioner` and `import stack`, `demo`, `bench` start from.
export PYTHONPATH := $(CURDIR)/lambda:$(CURDIR)/tests
# The tests start our own programs hundreds of times: they are compiled once.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CACHE_DIR ?= $(CURDIR)/.cache/pip

PYTEST_ARGS ?=
# Twice what a CI machine has cores, since much of a run waits for locks and servers; `PYTEST_ARGS="-n 0 ..."` for one.
PYTEST := -m pytest -n 4 --dist loadscope --no-loadscope-reorder
# infra.mk may add what has to stand before the tests run.
TEST_NEEDS :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

-include infra/infra.mk

.PHONY: help install test test-all unit check format demo bench clean

help: ## this list
	@grep -hE '^[a-zA-Z0-9_.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([^:]+):.*## /  make \1\t/' | expand -t 30

install: $(VENV)/.installed .postgresql/.installed ## everything that the tests need

demo: $(DEMO)/.installed ## the whole story on the embedded stack; TFVARS=path/to/file for your own
	@$(PYTHON) tests/stack/binaries.py --one
	@$(DEMO)/bin/python -m demo

bench: install $(SAM) $(RUNTIME) .venv-plots/.installed ## measure speed and size; BENCH_ARGS="--quick" for a look
	@$(PY) -m bench $(BENCH_ARGS)
	@if [ -f .bench/results.json ]; then .venv-plots/bin/python tests/bench/plots.py; fi

# What is deployed runs on Python 3.13: the whole matrix once, there; on another Python, what may differ.
ELSEWHERE := tests/unit tests/integration/test_main_job.py tests/integration/test_demo.py

test: ## every test on Python 3.13, the core of them on this Python too; every test on this one where no 3.13 stands
	@$(MAKE) --no-print-directory test-with PART="$(ELSEWHERE)" TURNS=$(if $(PYTEST_ARGS),,--administrators-in-turn)

test-all: ## every test with both administrators on every PostgreSQL version, on Python 3.13 and on this one
	@$(MAKE) --no-print-directory test-with PART=

.PHONY: test-with test-here test-3.13
test-with: $(VENV)/.installed
	@python313="$$($(PY) tests/stack/find_python.py 3.13)"; \
	if $(PY) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))'; then $(MAKE) --no-print-directory test-here PART=; \
	elif [ -z "$$python313" ]; then echo "No Python 3.13 on this machine: every test runs on this one."; \
		$(MAKE) --no-print-directory test-here PART=; \
	else $(MAKE) --no-print-directory test-3.13 PYTHON313="$$python313" && $(MAKE) --no-print-directory test-here; fi

# What is named in PYTEST_ARGS takes the place of the part.
test-here: install $(SAM) $(RUNTIME) $(TEST_NEEDS)
	$(PY) $(PYTEST) $(TURNS) $(or $(PYTEST_ARGS),$(PART))

test-3.13: .venv313/.installed .postgresql/.installed $(SAM) .venv-runtime313/.installed $(TEST_NEEDS)
	$(PY313) $(PYTEST) $(TURNS) $(PYTEST_ARGS)

unit: $(VENV)/.installed ## what needs no server and no other program, in half a minute
	$(PY) $(PYTEST) -n 2 --hypothesis-profile=dev tests/unit $(PYTEST_ARGS)

check: $(VENV)/.installed ## what the linters and the type checker hold
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed ## let ruff put the code in shape
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove everything that was installed or built
	rm -rf .venv .venv313 .venv-sam .venv-runtime .venv-runtime313 .venv-plots .venv-cli .venv-demo .postgresql .cache .aws-sam .bench .stack
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what is installed ------------------------------------------------------------------------------------------------

# $(call environment,python,folder,groups): a virtual environment with the pinned groups of pyproject.toml.
define environment
	@"$(1)" tests/stack/environment.py $(2) $(3)
endef

$(VENV)/.installed: pyproject.toml
	$(call environment,$(PYTHON),$(VENV),run test)
	@touch $@

$(DEMO)/.installed: pyproject.toml
	$(call environment,$(PYTHON),$(DEMO),run demo)
	@touch $@

.venv313/.installed: pyproject.toml
	$(call environment,$(PYTHON313),.venv313,run test)
	@touch $@

$(SAM): pyproject.toml
	$(call environment,$(PYTHON),.venv-sam,sam)
	@touch $@

$(RUNTIME): pyproject.toml
	$(call environment,$(PYTHON),.venv-runtime,runtime)
	@touch $@

.venv-plots/.installed: pyproject.toml
	$(call environment,$(PYTHON),.venv-plots,plots)
	@touch $@

.venv-runtime313/.installed: pyproject.toml
	$(call environment,$(PYTHON313),.venv-runtime313,runtime)
	@touch $@

# Retried by the next make while a version is missing; the tests name it as skipped until then.
.postgresql/.installed: $(VENV)/.installed tests/stack/binaries.py
	@$(PY) -m stack.binaries
