# `make synth` and `make test` are all that a fresh machine needs; both install what they use.
SHELL := /bin/bash
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/node_modules/.bin:$(PATH)
ARGS ?=
START := $(shell date +%s)

.PHONY: synth set unset settings deploy template publish dist unit test soak lint format docs bench pin

synth: .venv/installed node_modules/installed
	cdk synth --quiet $(ARGS)

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

unit: .venv/installed-dev node_modules/installed
	pytest --numprocesses 2 --dist loadfile tests/unit $(ARGS)

test: .venv/installed-dev node_modules/installed
	tests/install-programs host machine
	pytest --numprocesses 2 --dist loadfile tests/unit tests/package tests/cloud $(ARGS)
	pytest tests/host $(ARGS)
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

# Power cuts of an emulated machine under writers: make soak CUTS=20
CUTS ?= 20
soak: .venv/installed-dev node_modules/installed
	tests/install-programs host machine
	CUTS=$(CUTS) pytest -s tests/machine/test_life.py -k power_cut $(ARGS)

bench: .venv/installed-dev node_modules/installed
	tests/install-programs host machine bench
	python -m tests.bench

# After a change of requirements*.in.
pin: .venv/installed-dev
	uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header --no-emit-index-url \
		--no-emit-find-links requirements.in --output-file requirements.txt
	uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header --no-emit-index-url \
		--no-emit-find-links requirements-dev.in --output-file requirements-dev.txt

.venv/installed: requirements.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	.venv/bin/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

node_modules/installed: package-lock.json
	npm ci --no-audit --no-fund --omit-lockfile-registry-resolved
	touch $@
