# The environment is made once and made again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AT_ONCE := --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: demo test test-optional lint bench compare setup clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(READY)

# The main job on an embedded data set: no network beyond the package index.
demo: $(READY)
	$(BIN)/mlrs transfer --schedule cifar10-resnet18 --model shufflenet_v2_x0_5 --dataset digits --epochs 30

test: $(READY)
	$(BIN)/python -m pytest $(AT_ONCE)

# The parts that need optional libraries, against the real ones.
test-optional: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[dev,html,lightning,onnx,optax,tensorboard,terminal,transformers]'
	$(BIN)/python -m pytest tests/adapters tests/export tests/report tests/commands mlrs_cli/adapters $(AT_ONCE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What an update costs, in one run; needs CIFAR-10 and a quiet machine.
bench: $(READY)
	$(BIN)/python benchmarks/update.py

# Every method against the best of a tuning grid, on ten small tasks: under two hours on two cores; what was run before is
# kept. The authors' snapshots take part where their files lie beside this checkout.
PUBLISHED := $(if $(wildcard ../shared/reference/mlr-snet),build/mlr-snet-published)
ENTRY := $(PUBLISHED:%=%/config.json)
RIVALS := cifar10-resnet18,mlr-snet,mlr-scalar,lrtuner,hd,hd:lr=usual,rtho,rtho:lr=usual,marthe,l4,schedule-free,prodigy,d-adaptation

compare: $(READY) $(ENTRY)
	$(BIN)/mlrs compare --tasks small --schedules $(RIVALS)$(PUBLISHED:%=,./%) --seeds 3 --out docs/results/small

build/mlr-snet-published/config.json: | $(READY)
	$(BIN)/mlrs zoo import $(patsubst %,../shared/reference/mlr-snet/snapshot-%.pth,1 100 200) \
	  --stages 0,1/3,2/3 --name mlr-snet-published --out $(@D)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
