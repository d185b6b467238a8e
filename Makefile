# Each target sets up what it needs in $(VENV) and works on a fresh machine, offline from every model hub.
VENV ?= .venv
PYTHON ?= python3
RUN = "$(VENV)/bin/python"
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt
export HF_HUB_OFFLINE = 1

.PHONY: help
help: ## Say what the targets do
	@grep -E '^[a-z-]+:.*##' Makefile | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: install-quickstart ## Train on the bundled sentences, print scores and one prediction
	$(RUN) -m hf_multitask quickstart

.PHONY: test
test: install-test ## Run the test suite on one process
	$(RUN) -m pytest -m "not distributed"

.PHONY: test-distributed
test-distributed: install-test ## Run the tests that start several processes: DDP, FSDP2, resume
	$(RUN) -m pytest -m distributed

.PHONY: quality
quality: install-quality ## Check format, types, layers and spelling
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"
	$(RUN) -m codespell_lib

.PHONY: docs
docs: install-docs ## Write the API reference into build/docs
	$(RUN) scripts/api_docs.py build/docs

.PHONY: clean
clean: ## Remove the environment and what runs have written
	rm -rf "$(VENV)" out build

# Stamps in the environment record what is installed. torch comes first, from its pinned version: left to the other
# packages it may come in a newer build.
.PHONY: install-quickstart install-test install-docs install-quality
install-quickstart install-test install-docs install-quality: install-%:
	@test -f "$(VENV)/$*.stamp" -a "$(VENV)/$*.stamp" -nt pyproject.toml -a "$(VENV)/$*.stamp" -nt constraints.txt \
	|| { echo "Installing hf-multitask[$*] into $(VENV) …" \
	&& { test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"; } \
	&& $(PIP) torch && $(PIP) -e ".[$*]" && touch "$(VENV)/$*.stamp"; }
