# Every target sets up .venv by itself; a machine needs Python (>= 3.11) and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: up test quick check audit commands venues faults fuzz bench migration format lock clean

up: $(STAMP)
	@exec $(BIN)/sparky up $(ARGS)

test: $(STAMP)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist loadgroup $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# For the loop while typing: pure tests, chosen by tests/conftest.py.
quick: $(STAMP)
	$(BIN)/pytest -m quick -n 2 -q tests/actors tests/engine tests/webhook_server tests/cli tests/simulator $(ARGS)

# Real processes, killed, stopped, hung and starved. Most of it is waiting, so two files run at once; the thousand
# processes, which leave nothing of the machine to others, run alone after them. ARGS="-k ..." may choose of either
# (pytest ends with 5 where it chooses nothing).
# FAULT_SEED, FAULT_SIGNALS and FAULT_STRATEGIES change what is killed when, and how many there are.
THOUSAND := tests/faults/test_a_thousand.py
faults: $(STAMP)
	@set -x; $(BIN)/pytest tests/faults --ignore $(THOUSAND) -n 2 --dist loadfile --timeout 1800 $(ARGS) \
	  || test $$? -eq $(if $(ARGS),5,0)
	@set -x; $(BIN)/pytest $(THOUSAND) --timeout 1800 $(ARGS) || test $$? -eq $(if $(ARGS),5,0)

# Every command as a process of its own: on streams that are closed, full or show less than Unicode, in other locales, and
# with rows that hold hostile text; and the whole product, started by its command.
commands: $(STAMP)
	$(BIN)/pytest tests/commands tests/e2e -n 4 $(ARGS)

# A whole webhook server with a real database at simulated venues, and the contract that each venue of live trading has passed.
venues: $(STAMP)
	$(BIN)/pytest tests/venues -n 4 $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Generated answers of a model and requests to the webhook server: FUZZ_CASES answers, API_FUZZ_CASES requests to each
# operation, both from FUZZ_SEED.
fuzz: $(STAMP)
	FUZZ_CASES=$${FUZZ_CASES:-100000} API_FUZZ_CASES=$${API_FUZZ_CASES:-5000} \
	  $(BIN)/pytest tests/fuzz tests/webhook_server/http/test_openapi.py --timeout 3600 $(ARGS)

# Tables of figures, for a machine that does nothing else meanwhile: about ten minutes.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.entry_path
	$(BIN)/python -m benchmarks.limiter
	$(BIN)/python -m benchmarks.execution
	$(BIN)/python -m benchmarks.entry_costs
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.scale --strategies 100 --cadence 5 --watch 60
	$(BIN)/python -m benchmarks.scale

# pip-audit lives apart: it brings more packages than it audits.
audit: $(STAMP)
	@test -x .venv/audit/bin/pip-audit || { $(PYTHON) -m venv .venv/audit \
	  && .venv/audit/bin/pip install --quiet --disable-pip-version-check pip-audit==2.9.0; } || true
	$(BIN)/python tests/security/audit.py .venv/audit/bin/pip-audit

# Writes what was changed in migrations/functions/ into a new numbered migration: make migration NAME=plain_words
migration: $(STAMP)
	@$(BIN)/python -m migrations.tool '$(NAME)'

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins everything with hashes, for every supported Python; the file names no registry.
lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --output-file requirements.lock --quiet $(ARGS)

clean:
	rm -rf .venv .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Sparky needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)
