# The two commands: `make demo` and `make test`. Both make .venv when it is not there.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test test-long lint types imports check format pictures clean

demo: $(STAMP)
	@if [ -t 0 ] && [ -t 1 ]; then $(BIN)/loratui demo; else $(BIN)/loratui demo --headless; fi

test: lint types imports check

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

# With a thread each, as the models of the tests are too small for more to help; one more than two cores have,
# as many tests wait for other processes.
check: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-long: $(STAMP)
	$(BIN)/python -m pytest -m long --timeout 7200

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: $(STAMP)
	$(BIN)/python tools/make_pictures.py

# torch first and by itself: the index that pip is set up with decides between its CPU and CUDA builds.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	$(PIP) install 'torch>=2.10' torchvision
	$(PIP) install -e '.[train,dev]'
	@touch $(STAMP)

clean:
	rm -rf build dist .mypy_cache .ruff_cache .import_linter_cache
