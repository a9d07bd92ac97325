# What a newcomer needs: `make demo` and `make test`. Everything else is for those who work on the project.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install browser demo test check format types pytest test-ray smoke bench bench-smoke fuzz chaos evidence-fast clean

help:
	@echo "make demo     install, then the whole method on the embedded data (about 4 minutes on two cores)"
	@echo "make test     install, then lint, types and tests"
	@echo "make test-ray install, then runs on Ray clusters that lose workers and nodes (minutes)"
	@echo "make smoke    install, then every recipe from end to end on tiny data (a minute or two each)"
	@echo "make bench    install, then measure speed and memory (a quarter of an hour on two cores): benchmarks/results.json"
	@echo "make bench-smoke  the same on tiny data, for crashes only"
	@echo "make fuzz FUZZ_SECONDS=60  feed mangled files to every reader, so long each (eighty of them)"
	@echo "make chaos CHAOS_FAULTS=200 CHAOS_SEED=0  kills, full disks, damaged files: does a run end as if nothing were? (half an hour)"
	@echo "make evidence-fast DATA=labels.csv  is cpsd run --fast as good as the faithful method? Hours; goes on where it stopped"
	@echo "make browser  install Chromium for the report page's tests, where this user may install packages"
	@echo "make format   rewrite the sources the way the linter wants them"
	@echo "make clean    remove the environment and the caches (never a run)"

install: $(STAMP)

# The environment is made again whenever the pinned versions or the package's needs change.
$(STAMP): constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cpsd needs Python 3.11 or newer, found " + sys.version.split()[0] + "; name one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

# The report page is tested in a real browser; without one these tests are skipped and say so.
browser:
	@if command -v chromium chromium-browser google-chrome >/dev/null; then echo "A browser is there."; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null \
		|| echo "Chromium could not be installed; the tests of the report page in a browser are skipped."; \
	else echo "Install Chromium with your system's packages; without it the browser tests are skipped."; fi

# The demo goes on where it stopped, and shows its table again when it is done.
demo: $(STAMP)
	$(BIN)/cpsd data demo demo-data
	$(BIN)/cpsd run demo-data/labels.csv --config demo --out runs/demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

# Side by side, a file of tests in one process; each with one thread, or they would wait for one another.
TEST_PROCESSES ?= 2
pytest: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile

test: check types pytest

# Real Ray clusters on this machine that lose workers and nodes, and comparisons on them.
test-ray: $(STAMP)
	$(BIN)/pytest tests/cluster -m ray

# Every recipe's smoke form, in a folder that is thrown away.
smoke: $(STAMP)
	@runs=$$(mktemp -d) && trap 'rm -rf "$$runs"' EXIT && \
	for recipe in recipes/*.yaml; do \
		name=$$(basename "$$recipe" .yaml) && echo "=== $$name" && \
		$(BIN)/cpsd run --config "$$name" --smoke --out "$$runs/$$name" && \
		rm -rf "$$runs/$$name" || exit 1; \
	done

# What docs/performance.md tells of: a table, and benchmarks/results.json.
bench: $(STAMP)
	$(BIN)/python benchmarks/bench.py

bench-smoke: $(STAMP)
	$(BIN)/python benchmarks/bench.py --smoke

# Half of the time guided by coverage, where atheris can be installed (Linux, Python 3.11 to 3.13).
FUZZ_SECONDS ?= 10
FUZZ_OPTIONS ?=
fuzz: $(STAMP)
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	$(BIN)/python fuzz/fuzz.py --seconds $(FUZZ_SECONDS) $(FUZZ_OPTIONS)

# Faults befall small real runs, which are held to one that none has befallen; docs/faults.md.
CHAOS_FAULTS ?= 200
CHAOS_SEED ?= 0
CHAOS_OPTIONS ?=
chaos: $(STAMP)
	$(BIN)/python chaos/chaos.py --faults $(CHAOS_FAULTS) --seed $(CHAOS_SEED) $(CHAOS_OPTIONS)

# Hours, in evidence/fast; goes on where it stopped: make evidence-fast DATA=labels.csv WEIGHTS=mobilenetv2_100.safetensors
DATA ?=
WEIGHTS ?= timm
EVIDENCE_OPTIONS ?=
evidence-fast: $(STAMP)
	@test -n "$(DATA)" || { echo "Name the pictures: make evidence-fast DATA=mirflickr/labels.csv [WEIGHTS=FILE]"; exit 2; }
	$(BIN)/python benchmarks/evidence_fast.py "$(DATA)" --weights "$(WEIGHTS)" --out evidence/fast $(EVIDENCE_OPTIONS)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
