# One command a purpose, the same on a laptop and in CI.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= auto

.PHONY: help install demo test soak fuzz audit check format lock lab screenshots bench matrix clean

help:
	@echo "make demo | test | soak | fuzz | audit | check | screenshots | bench | matrix | install | lock | clean"

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@sh scripts/need-python.sh $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	$(BIN)/mxcensus demo

# Server programs for tests/lab: Debian packages, installed only when root; see scripts/lab-packages.sh.
lab:
	@sh scripts/lab-packages.sh

test: install lab
	$(BIN)/pytest -n $(JOBS) --dist loadgroup

# The full counts of what the suite does a little of: kill -9 at random moments, database outages, hostile servers.
# About an hour.
KILLS   ?= 200
OUTAGES ?= 50
HOSTILE ?= 5000
soak: install lab
	MXCENSUS_KILLS=$(KILLS) MXCENSUS_OUTAGES=$(OUTAGES) MXCENSUS_HOSTILE=$(HOSTILE) LAB=require \
	    $(BIN)/pytest tests/test_resume.py tests/test_lab_hostile.py

# Coverage-guided fuzzing of whatever reads octets of strangers; atheris has wheels for few Pythons, so it is not in the
# lock. What it finds lies in fuzz/; a million DNS messages are compared with dnspython first.
SECONDS_EACH ?= 180
MESSAGES     ?= 1000000
fuzz: install
	$(BIN)/pip install --quiet atheris
	$(BIN)/python tests/dnsjudge.py $(MESSAGES)
	for target in dns replies certificates ca-names targets snapshots; do \
	    $(BIN)/python scripts/fuzz.py $$target fuzz/$$target -max_total_time=$(SECONDS_EACH) || exit 1; done

# Known weaknesses of what is locked (asks a service on the Internet).
audit: install
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_architecture.py tests/test_docs.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lock names every package with its hashes and no registry.
lock:
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 --all-extras --group dev pyproject.toml -o requirements.lock

# The pictures in docs/images, taken by a test of the demo's pages; another test holds them to be current.
screenshots: install lab
	MXCENSUS_SCREENSHOTS=1 LAB=require $(BIN)/pytest -n 1 tests/lab/test_real_screenshots.py

bench: install
	$(BIN)/python -m benchmarks.run $(BENCH)

# Starts six mail servers, observes them, and rewrites docs/software-matrix.md. Needs root, network and some minutes.
matrix: install
	@LAB=require sh scripts/lab-packages.sh matrix
	$(BIN)/python -m matrix

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
