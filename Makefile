# Each target sets up .venv by itself: made when missing, updated when what is installed has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	rm -rf runs/toy runs/source_toy runs/sapnet_toy
	$(BIN)/python seg_adapt/train.py --method road
	$(BIN)/python det_adapt/train_net.py --config-file configs/sapnet_toy.yaml

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(READY)
	$(BIN)/python benchmarks/toy.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/association.py
	$(BIN)/python benchmarks/projection.py
	$(BIN)/python benchmarks/pseudo_labels.py
	$(BIN)/python benchmarks/sap.py
	$(BIN)/python benchmarks/detection.py
	$(BIN)/python benchmarks/instance_evaluation.py

$(READY): setup.cfg setup.py pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache
