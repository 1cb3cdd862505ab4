# `make synth` and `make test` are all that a fresh machine needs; both install what they use.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
# npm says once whether Node.js is one of package.json's; jsii would say it at each run.
export JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION := 1
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20
ARGS ?=
START := $(shell date +%s)

.PHONY: synth set unset settings deploy template publish dist try size copy unit test soak lint format docs dashboard bench pin

# Without the CDK's advice on feature flags, which are for those who write apps.
synth: .venv/installed node_modules/installed
	@{ cdk synth --quiet $(ARGS) 2>&1 >&3 | grep --invert-match 'feature flags are not configured' >&2; \
		exit $${PIPESTATUS[0]}; } 3>&1
	@echo "The template is $$(ls -t cdk.out/*.template.json | head -1). Deploy it with: npx cdk deploy" $(ARGS)

# Settings are kept in cdk.json: make set ARGS="instanceType=t3.medium allowedCidr=203.0.113.0/24"
set: .venv/installed
	python -m chroma_stack.configure $(ARGS)

# make unset ARGS="allowedCidr"
unset: .venv/installed
	python -m chroma_stack.configure $(addsuffix =,$(ARGS))

settings: .venv/installed
	python -m chroma_stack.configure

deploy: .venv/installed node_modules/installed
	cdk deploy $(ARGS)

# The published template, for people without the CDK.
template: .venv/installed
	python -m chroma_stack.published_template dist/chroma.cf.json

# make publish ARGS="--bucket NAME --dry-run"
publish: .venv/installed
	python -m chroma_stack.publish $(ARGS)

# The package, as a wheel and as its source.
dist: .venv/installed-dev
	uv build --quiet --out-dir dist .

# The server that a deployment would start, on this computer: make try ARGS="-c auth=basic"
try: .venv/installed-dev node_modules/installed
	@python -m chroma_stack.emulator $(ARGS)

# make size ARGS="--vectors 2M --dimensions 1536"
size: .venv/installed-dev
	@python -m chroma_stack.size $(ARGS)

# make copy ARGS="http://192.0.2.1:8000 file:backup"
copy: .venv/installed-dev
	@python -m chroma_stack.copy $(ARGS)

unit: .venv/installed-dev node_modules/installed
	pytest --numprocesses 2 --dist loadfile tests/unit $(ARGS)

test: .venv/installed-dev node_modules/installed
	tests/install-programs host machine
	pytest --numprocesses 2 --dist loadfile tests/unit tests/package tests/cloud $(ARGS)
	# Some of them wait most of their time.
	pytest --numprocesses 3 --dist loadfile tests/host $(ARGS)
	# An emulated instance uses one processor.
	pytest --numprocesses 2 --dist loadfile tests/machine $(ARGS)
	@echo "All tests passed in $$((($$(date +%s) - $(START)) / 60)) minutes."

lint: .venv/installed-dev node_modules/installed template
	tests/install-programs host
	ruff format --check .
	ruff check .
	mypy
	shellcheck --external-sources $$(git ls-files ':!*.py' | xargs grep -lE '^(#!/bin/(ba)?sh|# shellcheck shell=)')
	cdk synth --quiet
	cfn-lint cdk.out/*.template.json dist/chroma.cf.json

format: .venv/installed-dev
	ruff check --fix .
	ruff format .

# What the documentation takes from the code.
docs: .venv/installed-dev
	python -m tests.unit.pages

# The picture of a server's dashboard; make dashboard ARGS=--record runs its benchmark before.
dashboard: .venv/installed-dev node_modules/installed
	$(if $(filter --record,$(ARGS)),tests/install-programs host)
	python -m tests.bench.dashboard $(ARGS)

# Power cuts of an emulated machine under writers: make soak CUTS=20
# Kills of bare servers under writers: make soak KILLS=500
# Attempts of users to do what they may not: make soak ATTEMPTS=10000
CUTS ?= 20
soak: .venv/installed-dev node_modules/installed
	tests/install-programs host machine
	$(if $(KILLS),python -m tests.host.kills --kills $(KILLS),$(if $(ATTEMPTS),ATTEMPTS=$(ATTEMPTS) \
		pytest --durations=0 tests/host/test_access_bypass.py,CUTS=$(CUTS) \
		pytest -s tests/machine/test_life.py -k power_cut)) $(ARGS)

bench: .venv/installed-dev node_modules/installed
	tests/install-programs host machine bench
	python -m tests.bench

# After a change of requirements*.in.
pin: .venv/installed-dev
	uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header --no-emit-index-url \
		--no-emit-find-links requirements.in --output-file requirements.txt
	uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header --no-emit-index-url \
		--no-emit-find-links requirements-dev.in --output-file requirements-dev.txt

# What a failed try left behind is made anew, and so is a .venv of another Python than PYTHON=.
RECENT := import sys; sys.exit(sys.version_info < (3, 10))
GIVEN := $(filter command environment,$(origin PYTHON))
ifneq ($(shell .venv/bin/python -c 'import pip; $(RECENT)' 2>/dev/null && \
	{ [[ -z "$(GIVEN)" ]] || [[ "$$(.venv/bin/python --version)" == "$$($(PYTHON) --version 2>&1)" ]]; } && \
	echo usable),usable)
.venv/installed: new-venv
endif

.PHONY: new-venv
new-venv:
	@PATH="$${PATH//"$(CURDIR)/.venv/bin:"/}"; \
	$(PYTHON) -c '$(RECENT)' 2>/dev/null || { echo "Python 3.10 or later is needed, and $(PYTHON) is not:" \
		"name one that is, as in make synth PYTHON=python3.12" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make an environment with pip:" \
		"on Debian and Ubuntu, install python3-venv" >&2; exit 1; }; \
	rm -rf .venv && $(PYTHON) -m venv .venv

.venv/installed: requirements.txt
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

node_modules/installed: package-lock.json
	npm ci --no-audit --no-fund --omit-lockfile-registry-resolved
	touch $@
