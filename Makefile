# Every target sets up what it needs, once. `make help` lists the targets.
PYTHON ?= python3
# cpu or cuda; empty: unchanged, at first cpu
TORCH ?=
MODELS ?= smollm2
BIN := .venv/bin
# Compiled modules are kept whatever the caller's environment says: tests start hundreds of Python processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo check unit coverage test test-browser load setup models lint bench pair exactness gpu-bench soak fleet fuzz-sim compose-test k8s-access k8s-validate pins clean distclean demo-model

help: ## list of targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1|/' | while IFS='|' read -r t h; do printf '  make %-11s %s\n' "$$t" "$$h"; done
	@echo
	@echo '  TORCH=cpu|cuda            which build of torch (default cpu)'
	@echo '  MODELS="smollm2 ..."      for make models: smollm2, qwen2.5-coder (1.6 GB to download)'
	@echo '  PYTHON=python3.12         Python of the environment (3.11 or newer)'
	@echo '  OUTRIDER_CACHE=DIR        models and compiled wheels (default ~/.cache/outrider)'

demo: demo-model ## eight users, with local and with emulated devices: texts and a table (DEMO="--repeats 1")
	@$(BIN)/outrider demo $(DEMO)

# Two processes, in random order. A run prints its seed; PYTEST_ARGS="-p no:randomly" keeps the order of the files.
UNIT := -m "not slow and not model and not browser" -n 2 --dist worksteal -q

check: lint unit ## lint, types and unit tests, before each commit

unit: setup ## unit tests in two processes: without slow ones, a model or a browser
	@$(BIN)/python -m pytest $(UNIT) $(PYTEST_ARGS)

coverage: setup ## branch coverage of shared and the pure cores by unit tests; the floor is in pyproject.toml
	@$(BIN)/python -m pytest $(UNIT) --cov --cov-report=term:skip-covered $(PYTEST_ARGS) tests/shared tests/services tests/integration

# Exit code 5: PYTEST_ARGS selects no test of this part. Slow tests without a model are single threads that mostly
# simulate; those with one use all cores, so they run one at a time.
test: demo-model ## all tests: unit tests and slow ones in two processes, then those with a model in one
	@$(BIN)/python -m pytest $(UNIT) $(UNIT_ARGS) $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "slow and not model and not browser" -n 2 --dist worksteal -q --durations 20 $(PYTEST_ARGS) || [ $$? -eq 5 ]
	@$(BIN)/python -m pytest -m "model and not browser" -q --durations 20 $(PYTEST_ARGS) || [ $$? -eq 5 ]

setup: ## the environment .venv with pinned packages
	@command -v $(PYTHON) >/dev/null || { echo "outrider setup: no $(PYTHON) on the path; install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@$(PYTHON) scripts/setup.py --torch "$(TORCH)"

test-browser: setup ## loadgen's report in headless Chromium (Debian: chromium chromium-driver)
	@$(BIN)/python -m pytest -m browser tests/browser

models: setup ## fetch models: MODELS="smollm2 qwen2.5-coder"
	@for model in $(MODELS); do $(BIN)/python -m cli.models fetch "$$model" || exit 1; done

demo-model: setup
	@$(BIN)/python -m cli.models fetch smollm2

lint: setup ## ruff, mypy in strict mode (tests too), layering
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layering.py

bench: demo-model ## packed against padded verification, orchestration overhead, drift; 1.5B if it is fetched
	@$(BIN)/python -m cli.bench.verifier.packed
	@$(BIN)/python -m cli.bench.orchestration
	@$(BIN)/python -m cli.bench.orchestration --real smollm2 --out .outrider/orchestration-smollm2.json
	@$(BIN)/python -m cli.bench.drift

pair: setup ## the real pair against transformers' generate and assisted generation (make models MODELS=qwen2.5-coder)
	@$(BIN)/python -m cli.bench.pair

exactness: demo-model ## texts under every policy, load and crash against the target alone; resumable
	@$(BIN)/python -m tests.exactness

load: setup ## load test of the local stack (LOAD="--rate 2 --requests 200"), and its report
	@$(BIN)/loadgen run --out .outrider/load.json $(LOAD)
	@$(BIN)/loadgen report .outrider/load.json -o .outrider/load.html

soak: demo-model ## eight users for an hour: texts, memory, the broker's keys (MINUTES=60)
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60)

fleet: setup ## a thousand emulated devices for six minutes: texts, memory, the broker (MINUTES=6)
	@$(BIN)/python -m tests.soak.fleet --minutes $(or $(MINUTES),6)

fuzz-sim: setup ## seeds of faults on virtual time for MINUTES=10, judged and shrunk (FUZZ="--jobs 2 --first 0")
	@$(BIN)/python -m tests.harness.fuzz --minutes $(or $(MINUTES),10) $(FUZZ)

gpu-bench: ## the verifier's cost law on a CUDA GPU, with the python3 on the path
	@python3 -m cli.bench.verifier.gpu

compose-test: setup ## docker-compose.yml on a Docker engine: build, texts, scaling, kills, down
	@$(BIN)/python -m tests.compose

k8s-access: setup ## passwords and an API key for the Kubernetes base, in k8s/base/access (created once, not committed)
	@$(BIN)/outrider devices prepare --access k8s/base/access
	@test -s k8s/base/access/gateway/api-keys || (umask 077; $(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(24))' > k8s/base/access/gateway/api-keys)
	@echo 'k8s/base/access is ready; clients use the key in k8s/base/access/gateway/api-keys'

k8s-validate: setup ## every Kubernetes overlay against the published schemas and a policy linter
	@$(BIN)/python scripts/k8s_validate.py

pins: setup ## resolve constraints.txt for every Python; valid pins stay (UPGRADE=1: newest versions)
	@$(BIN)/python scripts/pins.py $(if $(UPGRADE),--upgrade)

clean: ## delete environment and state
	@rm -rf .venv .outrider build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: ## clean, and delete models and compiled wheels after listing their sizes (YES=1: without confirmation)
	@scripts/distclean.sh
