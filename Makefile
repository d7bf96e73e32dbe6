# `make demo` and `make test` set everything up by themselves; they need Python 3.11, make and PyPI.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types unit properties reproduce report speed install clean

demo: $(VENV)/demo.done
	$(BIN)/wavescale demo

test: $(VENV)/test.done
	$(MAKE) lint types unit

# Nothing here needs the hub, but runs of the paper's scale do.
demo test lint types unit properties report: export HF_HUB_OFFLINE := 1

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/pytest -n 2 --dist worksteal

# The random tests of kept functions and of damaged files at length: 2,000 examples each.
properties: $(VENV)/test.done
	$(BIN)/pytest -n 2 --hypothesis-profile long --hypothesis-show-statistics tests/test_properties.py tests/test_damaged.py

# The table of savings: make reproduce DATA_DIR=data [ROW=gpt-s2l] [METHOD=wavescale] [SEED=0] [RESULTS=mine]
reproduce: $(VENV)/test.done
	$(BIN)/python experiments/reproduce.py $(TRAIN_FILES:%=--train-file %) $(DATA_DIR:%=--data-dir %) \
		$(ROW:%=--row %) $(METHOD:%=--method %) $(SEED:%=--seed %) $(SCALE:%=--scale %) $(MINUTES:%=--minutes %) \
		$(RESULTS:%=--results %)

# docs/savings.md with its figures, and docs/savings.html, from the results in experiments/results
report: $(VENV)/test.done
	PYTHONPATH=experiments $(BIN)/python -m report $(SCALE:%=--scale %)

# docs/speed.md and its picture, after measuring on a file system in memory and on a disk: make speed DISK=/some/disk
speed: $(VENV)/test.done
	$(BIN)/python benchmarks/streaming/measure.py all --work /dev/shm/streaming --disk $(DISK)
	$(BIN)/python benchmarks/streaming/report.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/test.done: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
