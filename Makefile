# make quickstart   install, simulate, train five strategies with three seeds, table and figures
# make test         the test suite
# make test-slow    the tests that take long
# make test-matrix  the tests that face Lightning, with each Python found, old and new packages, both namespaces
# make coverage     the test suite but for benchmarks, and which lines and branches it does not reach; fails under 95 % of either
# make lint         format, style and types
# make docs         the documentation as a site, build/docs; fails on a warning, such as a link that leads nowhere
# make links        whether links to other sites lead somewhere; needs a network
# make mutation     which changes of four rooms of mptt/ no test sees; `tests/mutation.py browse` shows them
# make bench        what a step, an epoch, a fit and data larger than memory cost

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/installed
DOCUMENTED = $(VENV)/documented

.PHONY: quickstart test test-slow test-matrix coverage lint docs links mutation bench clean

quickstart: $(INSTALLED)
	$(BIN)/mptt compare quickstart --workers 2

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-matrix:
	$(PYTHON) tests/matrix.py

coverage: $(INSTALLED)
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses auto --ignore-glob='*test_bench*'
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage json --quiet
	$(BIN)/python tests/helpers/covered.py build/coverage.json

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	rm -rf build/types && mkdir -p build/types/mptt
	ln -s $(CURDIR)/mptt/* $(CURDIR)/callbacks $(CURDIR)/datamodules $(CURDIR)/experiments build/types/mptt/
	MYPYPATH=build/types $(BIN)/mypy -p mptt

docs: $(DOCUMENTED)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --quiet --write-all --fail-on-warning --keep-going --nitpicky docs build/docs

links: $(DOCUMENTED)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --quiet --builder linkcheck -D nb_execution_mode=off -D suppress_warnings=myst-nb.lexer docs build/links

mutation: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[mutation]"
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation.py run --max-children 1
	$(BIN)/python tests/mutation.py results

bench: $(INSTALLED)
	$(BIN)/python -m mptt.experiments.bench

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

$(DOCUMENTED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build dist mutants runs data *.egg-info
