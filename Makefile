# Every target works on a fresh machine with Python 3.11 or newer: what it needs, it installs.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell tools/find-python)
NO_PYTHON := Sluice needs Python 3.11 or newer; none was found. Install one, or name it: make PYTHON=/path/to/python3
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_TIME ?= 60
SOAK_MINUTES ?= 30

.PHONY: help demo demo-check test test-fast test-slow fuzz soak bench bench-cluster cluster image docs manifests wheel lint format lock clean

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.made: tools/find-python
	@test -n "$(PYTHON)" || { echo "$(NO_PYTHON)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made requirements/demo.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/demo.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made requirements/dev.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## a chat over wss through Sluice, until Ctrl-C
	@exec $(BIN)/python tools/demo.py

demo-check: $(VENV)/.demo ## the same on free ports, driven as a person would; ends with 0 or 1
	@exec $(BIN)/python tools/demo_check.py

test-fast: $(VENV)/.dev ## unit, translate and wire tests but for the slow ones; needs no more than Python, takes a minute and a half at most
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not slow and not programs" --durations=10 --durations-min=0.5 tests/unit tests/translate tests/wire

test: $(VENV)/.dev ## install what the tests need (Debian packages too) and run them all, the proxy's over the compiled modules too
	tools/install-test-packages
	-tools/install-cluster-packages
	-$(BIN)/python tools/cluster_binaries.py >/dev/null
	-$(BIN)/python tools/image.py
	$(BIN)/python tools/build_native.py
	SLUICE_TEST_NATIVE=1 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/unit/proxy tests/wire
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: export SOAK_MINUTES := $(SOAK_MINUTES)
test-slow: export FUZZ_TIME := $(FUZZ_TIME)
test-slow: $(VENV)/.dev ## what takes minutes, outside CI: soak, fuzzing; writes tests/slow/RESULTS.md
	@mkdir -p build
	$(BIN)/python -m pytest $(PYTEST_ARGS) --junitxml=build/slow.xml tests/slow; code=$$?; $(BIN)/python tools/slow_results.py build/slow.xml; exit $$code

fuzz: $(VENV)/.dev ## mutate the corpus of tests/fuzz for FUZZ_TIME seconds; 1000000x: for that many inputs
	$(BIN)/python tests/fuzz $(FUZZ_TIME)

soak: $(VENV)/.demo ## sluice standalone under load, edits and kills for SOAK_MINUTES; fails unless memory and descriptors stay flat
	@mkdir -p build
	@exec $(BIN)/python tools/soak.py $(SOAK_MINUTES) 2>build/soak.log

bench: $(VENV)/.dev ## ours beside nginx, HAProxy, Caddy and Envoy; BENCH_ARGS="--loads 'HTTP|latency' --peers nginx --rounds 3 --seconds 2 --json FILE"
	tools/install-bench-packages
	$(BIN)/python tools/build_native.py
	$(BIN)/python benchmarks $(BENCH_ARGS)

bench-cluster: $(VENV)/.dev ## the operator on a real API server: changes to answers, cold start, CPU per event (root); BENCH_ARGS="--only apply,cold"
	tools/install-cluster-packages
	$(BIN)/python tools/cluster_binaries.py etcd kube-apiserver kubectl helm >/dev/null
	$(BIN)/python benchmarks/on_cluster.py $(BENCH_ARGS)

docs: $(VENV)/.dev ## write the tables of docs/ and of the README anew, from the code and the CRD
	$(BIN)/python tools/metrics_page.py
	$(BIN)/python tools/causes_table.py
	$(BIN)/python tools/settings_table.py
	$(BIN)/python tools/docs_wsroute.py
	$(BIN)/python tools/annotations_table.py
	$(BIN)/python tools/sizing_table.py
	$(BIN)/python tools/bench_table.py
	$(BIN)/python tools/rights_table.py
	$(BIN)/python tools/chart_values_table.py

cluster: $(VENV)/.dev ## a whole Kubernetes of one node with Sluice's image, until Ctrl-C (root; Go 1.25 or newer)
	tools/install-cluster-packages
	$(BIN)/python tools/cluster_binaries.py >/dev/null
	$(BIN)/python tools/image.py
	@exec $(BIN)/python tools/cluster_node.py build/sluice-image.tar

image: ## build/sluice-image.tar: a docker archive of localhost/sluice:dev; installs nothing of Python's (root)
	@test -n "$(PYTHON)" || { echo "$(NO_PYTHON)"; exit 1; }
	tools/install-cluster-packages
	$(PYTHON) tools/image.py

wheel: $(VENV)/.dev ## dist/: a wheel with the hot modules compiled for this machine and Python, and one that needs no compiler
	rm -rf build/lib* build/temp* dist
	SLUICE_NATIVE=1 $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build/lib* build/temp*
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

manifests: $(VENV)/.dev ## render manifests/install.yaml and the chart's goldens anew; read the difference
	$(BIN)/python tools/render_manifests.py
	SLUICE_GOLDEN=write $(BIN)/python -m pytest --quiet tests/chart/test_golden.py

lint: $(VENV)/.dev ## ruff, mypy, import contracts, links, longest files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_links.py
	$(BIN)/python tools/longest.py

format: $(VENV)/.dev ## rewrite the code as ruff formats it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin every dependency with hashes (needs uv)
	for name in runtime demo dev; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	    $$(test $$name = runtime || echo --extra $$name --constraint requirements/runtime.txt) pyproject.toml --output-file requirements/$$name.txt || exit 1; \
	done
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	  --constraint requirements/dev.txt requirements/build.in --output-file requirements/build.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	  requirements/bench.in --output-file requirements/bench.txt

clean: ## remove what the targets made
	rm -rf $(VENV) build dist manifests/examples/chat/generated
