# finitewidth: `make demo` and `make test` each do all the set-up they need. Paths are relative, so that a
# checkout whose path holds spaces works; tools run as `python -m`, so that no script's first line matters.
PYTHON ?= python3
# two workers, one BLAS thread each: threads of BLAS would only wait for one another
PYTEST_ARGS ?= -q -n 2
BENCH_ARGS ?= -q -s
# what is quick and still touches every part
QUICK_ARGS ?= -q -n 2 -m "not slow"
FUZZ_ARGS ?= --minutes 30

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
AT_LEAST_3_11 := import sys; sys.exit(sys.version_info < (3, 11))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# where it is set, every process that a test starts would compile the package anew
export PYTHONDONTWRITEBYTECODE :=
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help install demo test fast processors timings lint types format docs bench bounds fuzz guided robustness api oldest newest release coverage mutants lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

# The stamp holds the path it was made at: a copied or moved checkout, or one whose Python has gone, installs again.
ifneq ($(shell test -x $(PY) && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml requirements.lock
	@"$(PYTHON)" -c '$(AT_LEAST_3_11)' 2>/dev/null || { \
		echo "finitewidth needs Python 3.11 or newer, but $(PYTHON) is: $$("$(PYTHON)" --version 2>&1 | head -n 1)." \
		"Name a newer one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PY) -c '$(AT_LEAST_3_11)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@rm -f $(STAMP)
	@echo "installing the locked requirements into $(VENV) (minutes, the first time)"
	@$(PY) -m pip install -qq --requirement requirements.lock
	@$(PY) -m pip install -qq --no-deps --no-build-isolation --editable .
	@pwd -P > $(STAMP)

install: $(STAMP)  ## make .venv with the locked requirements and this package

demo: install  ## error against width on real digits, from theory and a few samples: a table, and a picture in demo-output
	@$(PY) -m finitewidth.cli demo --out demo-output

test: install  ## run every test (7 minutes on two free cores)
	@OPENBLAS_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_ARGS)

fast: install  ## run the tests that take next to no time, for daily use (tests/slow.txt holds the others)
	@OPENBLAS_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_ARGS) -m "not slow"

processors: install  ## every test as if on other processors and with other seeds, before a release (an hour)
	@$(PY) tools/processors.py $(PYTEST_ARGS)

timings: install  ## time every test and write anew which are slow
	@OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --durations=0 | $(PY) tests/slow.py

lint: install  ## check style and formatting
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: install  ## check types
	@$(PY) -m mypy

format: install  ## rewrite files in the project's format
	@$(PY) -m ruff check --fix --exit-zero --quiet .
	@$(PY) -m ruff format .

docs: install  ## build the site into docs/_build, warnings are errors
	@rm -rf docs/_build
	@$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

bench: install  ## this project beside other libraries, and how its seconds grow: one table, into docs/benchmarks.md
	@$(PY) benchmarks/table.py

fuzz: install  ## half an hour of hostile input for every reader and public function, as a table (FUZZ_ARGS)
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(PY) -m tests.fuzz $(FUZZ_ARGS)

guided: install  ## hostile input led by coverage, five minutes for every reader of bytes (GUIDED_ARGS)
	@$(PY) tools/guided.py $(GUIDED_ARGS)

robustness: install  ## extreme cases beside a second route: docs/testing.md
	@OPENBLAS_NUM_THREADS=1 $(PY) benchmarks/robustness.py

bounds: install  ## run every benchmark that has a bound
	@$(PY) -m pytest $(BENCH_ARGS) benchmarks

api: install  ## write down the public face anew: docs/api.txt
	@$(PY) tools/public_api.py

oldest: install  ## the quick tests with the oldest supported versions of the dependencies
	@$(PY) tools/supported.py oldest $(QUICK_ARGS)

newest: install  ## the same with the newest that pip can get
	@$(PY) tools/supported.py newest $(QUICK_ARGS)

release: install  ## build wheel and sdist, and check all that a release promises (RELEASE_ARGS="--keep dist")
	@$(PY) tools/release.py --pytest='$(QUICK_ARGS)' $(RELEASE_ARGS)

coverage: install  ## every test, with the branches that none of them takes (ten minutes)
	@$(PY) tools/branches.py $(PYTEST_ARGS)

mutants: install  ## 300 small changes of theory and kernels: how many do the tests notice? (half an hour)
	@$(PY) tools/mutants.py $(MUTANTS_ARGS)

lock: install  ## resolve requirements.lock anew from pyproject.toml
	@$(PY) -m pip install -qq uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--output-file requirements.lock pyproject.toml

clean:  ## remove all that make made, .venv too
	rm -rf $(VENV) .venv-* demo-output mutants guided docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
