# Every command makes .venv when it is missing, installs what it needs with pip, and starts at
# once the next time. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help demo train-demo test check check-full bench bench-docs bench-gpu docs clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# One stamp an extra; a change of the project file installs again.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml plugins/geoembed-systems/pyproject.toml | $(BIN)/python
	@echo "installing geoembed[$*] into $(VENV) (the first time takes some minutes) ..."
	$(PIP) --editable '.[$*]' --editable plugins/geoembed-systems
	@touch $@

demo: $(VENV)/.installed-demo ## embed 33,000 real cities, probe them, draw two maps into demo/
	$(BIN)/python tools/demo.py --output demo

train-demo: $(VENV)/.installed-train ## train both sides on satellite crops, compare, draw; into train-demo/
	$(BIN)/python tools/train_demo.py --output train-demo

# Two processes finish sooner than one with two threads; each needs up to 2 GB. Plain pytest runs one.
test: $(VENV)/.installed-test ## run every test
	$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=worksteal

check-full: $(VENV)/.installed-test ## compare with the published model at its full size: 13 GB of memory
	GEOEMBED_TEST_FULL=1 $(BIN)/python -m pytest tests/parity tests/test_bench.py -m slow

check: $(VENV)/.installed-check ## lint, types, layers, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

bench: $(VENV)/.installed-test ## measure everything, half an hour (BENCH=--quick: less); JSON in bench/
	$(BIN)/python benchmarks/run.py --output bench $(BENCH)

bench-docs: $(VENV)/.installed-test ## the same, and write the tables and pictures of the docs
	$(BIN)/python benchmarks/run.py --output bench --docs $(BENCH)

bench-gpu: $(VENV)/.installed-test ## measure training on a GPU: pictures a second, share of the peak, memory
	$(BIN)/python benchmarks/training.py --gpu

docs: $(VENV)/.installed-docs ## build the documentation into docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean: ## remove everything that the other commands made
	rm -rf $(VENV) demo train-demo bench docs/_build docs/_generated docs/api/generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
