# Each target sets up what it needs in $(VENV) and works on a fresh machine, offline from every model hub.
VENV ?= .venv
PYTHON ?= python3
RUN = "$(VENV)/bin/python"
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt
export HF_HUB_OFFLINE = 1

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: install-quickstart ## Train on the bundled sentences, print scores and one prediction
	$(RUN) -m hf_multitask quickstart

.PHONY: app
app: install-app ## Train, try and compare models in the browser
	$(RUN) -m hf_multitask app --browser

.PHONY: test
test: install-test ## Run the test suite on all cores
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist loadfile -m "not distributed and not app and not conformance"

.PHONY: test-distributed
test-distributed: install-test-distributed ## Run the tests that start several processes: DDP, FSDP2, resume, Ray
	$(RUN) -m pytest -m distributed

.PHONY: test-app
test-app: install-test-app chromium ## Run the tests of the app and of the server's page in a real browser
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist loadfile -m app tests/app tests/serving

.PHONY: test-conformance
test-conformance: install-test-conformance ## Run transformers' own tests of models on the multi-task model
	$(RUN) scripts/unpack_transformers_tests.py
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --dist loadscope -m conformance tests/conformance

.PHONY: test-gpu
test-gpu: install-test ## Run the tests of a CUDA device: precision, memory, cache, compile, resume, NCCL, FSDP2
	$(RUN) -m pytest -m gpu tests/gpu

.PHONY: quality
quality: install-quality ## Check format, types, layers and spelling
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	$(RUN) -m codespell_lib

.PHONY: docs
docs: install-docs ## Build pages and API reference as a site in build/docs; warnings are errors
	$(RUN) -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

.PHONY: clean
clean: ## Remove the environment and what runs have written
	rm -rf "$(VENV)" out build

# Stamps in the environment record what is installed. torch comes first, in its pinned version: the other packages could
# bring a newer build.
EXTRAS = quickstart app test test-distributed test-app test-conformance docs quality
.PHONY: $(EXTRAS:%=install-%)
$(EXTRAS:%=install-%): install-%:
	@test -f "$(VENV)/$*.stamp" -a "$(VENV)/$*.stamp" -nt pyproject.toml -a "$(VENV)/$*.stamp" -nt constraints.txt \
	|| { echo "Installing hf-multitask[$*] into $(VENV) …" \
	&& { test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"; } \
	&& $(PIP) torch && $(PIP) -e ".[$*]" && touch "$(VENV)/$*.stamp"; }

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || { \
	test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	|| { echo "The tests of the app need chromium: sudo apt-get install chromium" >&2; exit 1; }; \
	echo "Installing chromium …" && apt-get update -qq \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
