# Everything runs in .venv, which is made from constraints.txt on first use.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-python test-slow lint docs bench clean

demo: $(READY)
	$(BIN)/cellscale demo --output demo

# Two processes; the tests of one file stay together and share its Ray.
test: lint
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# Another interpreter has an environment of its own, of the newest versions that fit it: constraints.txt is for 3.11.
test-python:
	$(PYTHON) -m venv .venv-python
	.venv-python/bin/pip install --quiet --upgrade pip
	.venv-python/bin/pip install --quiet --editable '.[s3,test]'
	.venv-python/bin/pytest

test-slow: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt 'selenium>=4.30' --editable '.[docs]'
	$(BIN)/pytest -m slow --timeout 3600

docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict --site-dir site

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks examples docs
	$(BIN)/ruff format --check src tests benchmarks examples docs
	$(BIN)/mypy
	$(BIN)/mypy tests examples benchmarks
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(find src -name '*.py')

bench: $(READY)
	$(BIN)/python benchmarks/kernels.py --history docs/bench-history.jsonl
	$(BIN)/python benchmarks/history.py docs/bench-history.jsonl docs/images/bench-history.png

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[s3,test]'
	touch $(READY)

clean:
	rm -rf .venv .venv-python demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
