# Two commands set everything up by themselves: `make demo` and `make test`.
#
#   PYTHON=python3.12   the Python that .venv is made with (3.11 to 3.13; to change it later, delete .venv)
#   WORKERS=            one test after the other, with the debugger's prompt
#   ARGS="..."          passed on: make train ARGS="+experiment=ixi paths.ixi=DIR", make test ARGS="-k simplex"

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
UNFINISHED := $(VENV)/unfinished
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
ARGS ?=
WORKERS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast test-gpu newcomer mutations lint format bench docs \
	prepare train evaluate report predict clean \
	table1 table2 figure4 table3 figure3 figure5 fairness ablations authors_code

help:  ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9_ -]+:.*## / { printf "  make %-10s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is passed on to the verbs and the tests; PYTHON=python3.12 chooses what .venv is made with'

install: $(INSTALLED)  ## make .venv with the project and its tools (every target below does this first if needed)
	@echo "Installed in $(VENV). To use it in this shell: . $(VENV)/bin/activate"

demo: $(INSTALLED)  ## phantoms, training, detection and report, start to end; a second call continues
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash experiments/demo/run.sh

test: $(INSTALLED)  ## the whole suite, without what needs a GPU
	@OMP_NUM_THREADS=1 $(PY) -m pytest $(WORKERS) $(ARGS)

test-fast: $(INSTALLED)  ## the suite without the tests that train or sample
	@OMP_NUM_THREADS=1 $(PY) -m pytest $(WORKERS) -m "not gpu and not slow" $(ARGS)

test-gpu: $(INSTALLED)  ## only the tests that need a GPU
	@$(PY) -m pytest -m gpu $(ARGS)

newcomer: $(INSTALLED)  ## type the commands of README and getting-started in a new folder, at a tiny size (some minutes)
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests/newcomer.py $(ARGS)

mutations: $(INSTALLED)  ## break one line at a time; the tests must notice (about ten minutes; a second call continues)
	@OMP_NUM_THREADS=1 $(PY) tests/mutate.py $(ARGS)

lint: $(INSTALLED)  ## style, format and types; changes nothing
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

format: $(INSTALLED)  ## put style and format right as far as that needs no person
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(INSTALLED)  ## ratios of speed on this machine: runs/bench/bench.json and a table (some minutes)
	@$(PY) experiments/bench/bench.py

docs: $(INSTALLED)  ## the documentation as pages: build/docs/index.html; ARGS=serve shows it while you write
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs $(or $(ARGS),build) --strict -f docs/mkdocs/mkdocs.yml

prepare: $(INSTALLED)  ## python -m src.prepare ARGS
	@$(PY) -m src.prepare $(ARGS)

train: $(INSTALLED)  ## python -m src.train ARGS
	@$(PY) -m src.train $(ARGS)

evaluate: $(INSTALLED)  ## python -m src.evaluate ARGS
	@$(PY) -m src.evaluate $(ARGS)

report: $(INSTALLED)  ## python -m src.report ARGS
	@$(PY) -m src.report $(ARGS)

predict: $(INSTALLED)  ## python -m src.predict ARGS
	@$(PY) -m src.predict $(ARGS)

table1 table2 figure4: $(INSTALLED)  ## the rows that all three share, experiments/paper: make table1 ARGS=CHECKPOINT
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash experiments/paper/run.sh $(ARGS)

table3 figure3 figure5 fairness ablations authors_code: $(INSTALLED)  ## a recipe of experiments/: make table3 ARGS=CHECKPOINT
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash experiments/$@*/run.sh $(ARGS)

clean:  ## remove caches and build outputs; never runs/, data/ or .venv
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .coverage build dist src/*.egg-info *.egg-info
	@find src tests experiments -type d -name __pycache__ -prune -exec rm -rf {} +

# The set-up: uv from PATH, else uv from the package index, else pip. $(INSTALLED) is written last; $(UNFINISHED) stands
# while packages are being written, so that a .venv whose installation was cut off is made anew, while a finished one
# (or one's own) is only brought up to date. It runs when pyproject.toml or the Python is newer than $(INSTALLED).
define SETUP
trap 'exit 130' INT TERM
fail() { echo "set-up: $$*" >&2; exit 1; }
quietly() { "$$@" >/dev/null 2>&1; }
suitable() { quietly "$$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; }

if ! suitable $(PY) || [ -e $(UNFINISHED) ]; then
    python=
    for candidate in $(PYTHONS); do
        if suitable "$$candidate"; then python=$$candidate; break; fi
    done
    [ -n "$$python" ] || fail "Python 3.11, 3.12 or 3.13 is needed; none of these is one: $(PYTHONS)." \
        "Install one (apt install python3 python3-venv; or uv python install 3.12)," \
        "or name one: make install PYTHON=/path/to/python"
    echo "Making $(VENV) with $$("$$python" --version): once, a few minutes, about 6 GB on the disk"
    rm -f $(PY)
    rm -rf $(VENV)
    "$$python" -m venv --without-pip $(VENV) || fail "no venv module; on Debian: apt install python3-venv"
fi

need_pip() {
    quietly $(PY) -m pip --version || quietly $(PY) -m ensurepip ||
        fail "no uv on PATH, and this Python cannot give pip to $(VENV): apt install python3-venv (Debian), or install uv"
}
need_uv() { quietly $(PY) -m uv --version || { need_pip; $(PY) -m pip install --quiet uv; }; }
with_uv() {
    if quietly uv --version; then uv pip install --python $(PY) -e '.[dev]'
    else need_uv && $(PY) -m uv pip install --python $(PY) -e '.[dev]'; fi
}
with_pip() { need_pip; $(PY) -m pip install -e '.[dev]'; }

touch $(UNFINISHED)
with_uv || { echo "uv did not do it; trying pip (slower)"; with_pip; }
rm $(UNFINISHED)
touch $(INSTALLED)
endef
export SETUP

$(INSTALLED): pyproject.toml $(PY)
	@sh -eu -c "$$SETUP"

$(PY): ;
