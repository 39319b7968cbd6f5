# make dev and make test are all that is needed; everything lands in .venv. A stamp is a file whose date says
# when its target was last made.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := pyproject.toml setup.py README.md $(shell find src -name '*.py' -o -name py.typed -o -name 'page*')
CHECKED := src tests examples setup.py
# pytest processes; the tests of real processes run one at a time, they start enough of their own.
JOBS ?= 2
ARGS ?=

install_extra = $(BIN)/python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); \
	print(*p['project']['optional-dependencies']['$(1)'], sep='\n')" | $(PIP) -r /dev/stdin

.PHONY: dev test lint bench sim mutants fuzz clean

dev: $(VENV)/.installed
	$(BIN)/raft-io dev $(ARGS)

# The package under test is the installed one: pytest does not put src on the path.
test: $(VENV)/.installed $(VENV)/.tools
	@$(BIN)/python -c "import raft_io; print('testing', raft_io.__file__, 'compiled:', raft_io.COMPILED)"
	$(BIN)/pytest -q -n $(JOBS) -m "not process"
	$(BIN)/pytest -q -m process
	@PYTHONPATH=src $(BIN)/python -c "import raft_io; assert not raft_io.COMPILED; print('testing', raft_io.__file__)"
	PYTHONPATH=src $(BIN)/pytest -q -n $(JOBS) -m core

lint: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(CHECKED)

bench: $(VENV)/.installed
	$(call install_extra,bench)
	$(BIN)/raft-io bench core
	$(BIN)/raft-io bench cluster

# Seeds of the simulator, of which each is a minute of a cluster.
SEEDS ?= 1000
FROM ?= 1
sim: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/raft-io sim --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS)

# Which known bugs the simulator catches, on the interpreted sources; this takes some minutes.
mutants: $(VENV)/.installed $(VENV)/.tools
	PYTHONPATH=src:. $(BIN)/python -m tests.mutants.hunt --jobs $(JOBS) $(ARGS)

fuzz: $(VENV)/.installed
	$(call install_extra,fuzz)
	$(BIN)/python fuzz/wire.py -max_total_time=$(or $(SECONDS),60)

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "raft-io needs Python 3.11 or newer; choose one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# What an earlier build left would be installed too, even of files that are gone.
$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	rm -rf build
	@echo "Building raft-io. With a C compiler it is compiled, which takes a few minutes on a small machine; it prints nothing meanwhile."
	$(PIP) '.[fast]'
	@$(BIN)/python -c "import raft_io; print('raft-io is installed in $(VENV),', \
		'compiled.' if raft_io.COMPILED else 'interpreted: that is slower, and a C compiler mends it.')"
	touch $@

# Of the package's extras, without building the package once more.
$(VENV)/.tools: $(VENV)/.created pyproject.toml
	$(call install_extra,dev)
	touch $@
