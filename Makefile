# Two commands on a fresh machine: `make run` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUIET := TF_CPP_MIN_LOG_LEVEL=3 PYTHONDONTWRITEBYTECODE=1
# Three files at a time, also on two cores: many tests wait for processes that
# start. The tests of a file share what they set up. Threads of NumPy, of which
# each of the three would start one for every core, wait for one another.
PYTEST := $(QUIET) OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 \
  --dist loadfile --no-loadscope-reorder

.PHONY: run test test-all docs bench oracles lint types clean

$(VENV)/ran: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[tensorflow]'
	touch $@

$(VENV)/tested: $(VENV)/ran
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

# Four optimizers compared on digits: prints the answer and the report's path.
run: $(VENV)/ran
	$(QUIET) $(BIN)/lbcheck compare --flagfile=flags/quick.flags

lint: $(VENV)/tested
	$(BIN)/ruff check .

# The public annotations; files and settings are in pyproject.toml.
types: $(VENV)/tested
	$(BIN)/mypy

test: lint types
	$(PYTEST) -m 'not slow'

test-all: lint types
	$(BIN)/python -m pip install --quiet torch
	$(PYTEST)

# The site, into build/site; tests/docs/site_test.py builds it, too.
docs: $(VENV)/tested
	$(BIN)/mkdocs build --strict --config-file=docs/site/mkdocs.yml

# Every script of benchmarks/ beside its peers, under an hour: a line a measure in
# benchmarks/results.jsonl, and docs/benchmarks.md of them.
bench: $(VENV)/benched
	$(QUIET) $(BIN)/python benchmarks/run.py

# The peers that nothing else here needs.
$(VENV)/benched: $(VENV)/tested
	$(BIN)/python -m pip install --quiet keras-tuner optax
	touch $@

# Records the tensorflow-addons trajectories anew; needs Python 3.10 or 3.11.
oracles: .venv-oracles/ready
	.venv-oracles/bin/python lbcheck/conform/addons.py \
	  --output=lbcheck/conform/tensorflow_addons.json

.venv-oracles/ready: setup.py
	$(PYTHON) -m venv .venv-oracles
	.venv-oracles/bin/python -m pip install --quiet --upgrade pip
	.venv-oracles/bin/python -m pip install --quiet '.[oracles]'
	touch $@

# Also after a change of PYTHON.
clean:
	rm -rf .venv .venv-oracles
