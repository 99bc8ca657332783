# The environment is made once and made again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-optional lint bench setup clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(READY)

# The main job on an embedded data set: no network beyond the package index.
demo: $(READY)
	$(BIN)/mlrs transfer --schedule cifar10-resnet18 --model shufflenet_v2_x0_5 --dataset digits --epochs 30

test: $(READY)
	$(BIN)/python -m pytest

# The parts that need optional libraries, against the real ones.
test-optional: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,html,lightning,onnx,optax,tensorboard,terminal,transformers]'
	$(BIN)/python -m pytest tests/adapters tests/export tests/report tests/commands mlrs_cli/adapters

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What an update costs, in one run; needs CIFAR-10 and a quiet machine.
bench: $(READY)
	$(BIN)/python benchmarks/update.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
