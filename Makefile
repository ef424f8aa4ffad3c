# One command sets up whatever is missing: `make ask` answers a question, `make test` passes the tests.
# `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LANGGRAPH := .venv-langgraph
Q ?= What is the integral of x^2?
ARGS ?=
export Q

.PHONY: help ask serve test lint bench throughput conformance langgraph-dev gpu-check clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

ask: $(VENV)/.installed  ## answer a question: make ask Q="What is the integral of x^2?"
	@$(BIN)/kaelum ask $(ARGS) -- "$$Q"

serve: $(VENV)/.installed  ## OpenAI's API on http://127.0.0.1:8000/v1: make serve ARGS="--port 9000"
	@$(BIN)/kaelum serve $(ARGS)

test: $(VENV)/.installed-dev  ## every test, those on the real 0.5B model among them
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-dev  ## the linter, the formatter and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/.installed-dev  ## accuracy of the search beside voting, at equal tokens, on a small suite
	$(BIN)/python benchmarks/search.py --suite small $(ARGS)

throughput: $(VENV)/.installed-dev  ## tokens/s of the local engine beside plain generate
	$(BIN)/python benchmarks/throughput.py $(ARGS)

conformance: $(VENV)/.installed-dev  ## CompatCanary, a suite from npm, against a server with the real model
	tests/conformance/compatcanary.sh

langgraph-dev: $(LANGGRAPH)/.installed  ## Kaelum on LangGraph Server (Elastic-2.0, an environment of its own)
	$(LANGGRAPH)/bin/langgraph dev --no-browser $(ARGS)

gpu-check:  ## on a CUDA machine that has torch and transformers: make gpu-check WEIGHTS=<folder or pieces>
	$(PYTHON) benchmarks/gpu_check.py --weights "$(WEIGHTS)" $(ARGS)

clean:  ## remove the virtual environment; fetched models stay in the user's cache folder
	rm -rf $(VENV) $(LANGGRAPH)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Torch goes in on its own, pinned by the constraints, so that no other package's open range picks a larger build.
$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	@echo "Installing torch…" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.torch
	@echo "Installing Kaelum Graph and what it needs…" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools…" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

# It wants older versions of what only the tests need here; the rest it takes from the first environment.
$(LANGGRAPH)/.installed: | $(VENV)/.installed
	@echo "Installing LangGraph Server…" >&2
	$(BIN)/python -m venv $(LANGGRAPH)
	@$(LANGGRAPH)/bin/python -c "import sys, sysconfig; open(sysconfig.get_path('purelib') + '/kaelum.pth', 'w').write( \
		'import site; site.addsitedir(' + repr(sys.argv[1]) + ')')" \
		"$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")"
	@$(LANGGRAPH)/bin/pip install -q --disable-pip-version-check \
		'langgraph-cli[inmem]==0.4.40' 'langgraph-api==0.16.7' 'protobuf<7'
	@touch $@
