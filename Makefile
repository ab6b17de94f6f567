# One vocabulary; `make help` lists it. Everything runs from .venv, which the first target makes.
VENV ?= .venv
PY := $(VENV)/bin/python
# What `make unit COVER=...` adds; CI measures the tests that it runs anyway.
TRACED := --cov=relay --cov-report=

.DEFAULT_GOAL := help
.PHONY: help install install-dev run run-stack test fmt lint types arch unit e2e e2e-kubernetes e2e-kubernetes-node leaks interop real built counterparts chart image bench profile simulate soak lock fuzz coverage covered clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## make .venv, install the hash-locked dependencies, and tor where it is missing
	@tools/install.sh
	@tools/install-tor.sh

install-dev:
	@tools/install.sh dev
	@tools/install-tor.sh

run: install ## a private Tor network with three real relays passing real transactions (ARGS="--once --json")
	@$(PY) -m relay.cli.main localnet $(ARGS)

run-stack: install ## geth, pyrelay, Prometheus and the monitor on loopback, without Kubernetes (ARGS="--once --queries")
	@$(PY) deployment/stack/run_stack.py $(ARGS)

test: ## everything: unit and vectors, e2e on real Tor, interop with real geth
	@# Side by side: the unit tests take one core, and the others mostly wait, for Tor and for what cargo and go build.
	@$(MAKE) --no-print-directory -j2 unit real

real: install-dev
	@$(MAKE) --no-print-directory built
	@$(MAKE) --no-print-directory e2e
	@$(MAKE) --no-print-directory interop

built: install-dev
	@nice -n 5 tools/install-geth.sh >/dev/null
	@nice -n 5 $(MAKE) --no-print-directory counterparts

unit: install-dev ## unit tests, vectors and fuzzing of the pure rooms
	@tools/install-prometheus.sh >/dev/null || echo "no promtool here: tests of alerts will be skipped" >&2
	$(PY) -m pytest tests/unit tests/fuzz -q -m "not slow" $(COVER)
	$(PY) -m pytest tests/unit tests/fuzz -q -m slow

e2e: install-dev ## end to end on a real private Tor network, and on I2P
	@tools/install-i2pd.sh || echo "i2pd can't be installed here: the tests over I2P will be skipped" >&2
	@command -v obfs4proxy >/dev/null || tools/apt-install.sh obfs4proxy \
		|| echo "no obfs4proxy here: the test of a bridge will be skipped" >&2
	@tools/install-chromium.sh >/dev/null || echo "no chromium here: the tests of the status page will be skipped" >&2
	$(PY) -m pytest tests/e2e -q

leaks: install-dev ## the proof that nothing leaves but to Tor: packets, sockets, deliberate leaks (needs root)
	$(PY) -m pytest tests/e2e/test_leaks.py -q -s

e2e-kubernetes: install-dev ## the address book on a real kube-apiserver, built from its Go module (minutes, once)
	@KUBERNETES_DIR=$$(tools/install-kubernetes.sh) && PYRELAY_TEST_KUBERNETES=$$KUBERNETES_DIR \
		PYRELAY_TEST_KUBE_DEFINITIONS=$$(tools/install-kube-definitions.sh || echo "custom resources will not be checked" >&2) \
		$(PY) -m pytest tests/kubernetes -q

e2e-kubernetes-node: install-dev ## the overlays' pods on a real node; writes docs/e2e-kubernetes-node.md (root; half an hour, once)
	@tools/e2e-kubernetes-node.sh $(ARGS)

interop: install-dev counterparts ## with real geth, built from its Go module, and discv5 of others (Node, Rust)
	@GETH_DIR=$$(tools/install-geth.sh) && PYRELAY_TEST_GETH=$$GETH_DIR $(PY) -m pytest tests/interop -q

counterparts: # what can't be had here is named, and its tests skip with the reason
	@for each in discv5-js discv5-rust discv5-geth ethers rlpx-js rlpx-rust helm compose vrl; do \
		tools/install-$$each.sh >/dev/null || echo "$$each can't be built here: its tests will be skipped" >&2; \
	done
	@GETH_VERSION=v1.17.0 tools/install-geth.sh >/dev/null
	@command -v tmux >/dev/null || tools/apt-install.sh tmux || echo "no tmux here: the monitor's screen will not be tested" >&2
	@command -v miniupnpd >/dev/null || [ -x /usr/sbin/miniupnpd ] || tools/apt-install.sh miniupnpd-nftables nftables iproute2 \
		|| echo "the test of UPnP will be skipped" >&2

chart: install-dev ## the Helm chart and the Compose files by their own programs, built from Go modules (3 minutes, once)
	$(PY) -m pytest tests/unit/deployment tests/interop/test_helm_chart.py tests/interop/test_compose_files.py -q -k "chart or compose"

image: install-dev ## build both images with buildah and try them as Kubernetes would run them (needs root; ARGS="--archive DIR")
	@for each in buildah debootstrap; do command -v $$each >/dev/null || tools/apt-install.sh $$each \
		|| { echo "no $$each here: the images are NOT built" >&2; exit 1; }; done
	deployment/docker/test-image.sh $(ARGS)

fmt: install-dev ## format
	$(PY) -m ruff format relay tests benchmarks
	$(PY) -m ruff check --fix relay tests benchmarks

lint: install-dev ## lint and format check
	$(PY) -m ruff format --check relay tests benchmarks
	$(PY) -m ruff check relay tests benchmarks

types: install-dev ## mypy, strict
	$(PY) -m mypy

arch: install-dev ## the house: floors, purity, independence of rooms
	$(VENV)/bin/lint-imports --no-cache

fuzz: install-dev ## a minute of hostile input for each parser (SECONDS_=180; ARGS="--target socks5"; sharper with atheris)
	nice $(PY) -m tests.fuzz.endless --each $(or $(SECONDS_),60) $(ARGS)

coverage: ## branch coverage of the unit tests: pure rooms >= 95 %, relay/ >= 85 %
	@$(MAKE) --no-print-directory unit COVER="$(TRACED)"
	@$(MAKE) --no-print-directory covered

covered: install-dev
	$(PY) -m coverage report --include='relay/primitives/*,relay/chain/*,relay/protocols/*' --fail-under=95 --skip-covered
	$(PY) -m coverage report --fail-under=85 --skip-covered

bench: install-dev counterparts ## measure, next to geth in the same run; results go to benchmarks/results/ (ARGS="--quick")
	@GETH_DIR=$$(tools/install-geth.sh) && PYRELAY_TEST_GETH=$$GETH_DIR $(PY) -m benchmarks $(ARGS)

profile: install-dev ## a flame graph of the relay at full speed
	@GETH_DIR=$$(tools/install-geth.sh) && PYRELAY_TEST_GETH=$$GETH_DIR $(PY) -m benchmarks.profile $(ARGS)

simulate: install-dev ## 1,000 onion nodes for an hour of virtual time (ARGS="--nodes 10000 --minutes 10 --suite null")
	@mkdir -p benchmarks/results
	$(PY) -m benchmarks.simulation --json benchmarks/results/simulation.json --plot benchmarks/simulation.png $(ARGS)

soak: install-dev ## an hour between real geths (SECONDS_=300 for five minutes)
	@GETH_DIR=$$(tools/install-geth.sh) && PYRELAY_TEST_GETH=$$GETH_DIR PYRELAY_TEST_SOAK_SECONDS=$(or $(SECONDS_),3600) \
		$(PY) -m pytest tests/interop -q -k soak -s

lock: install-dev ## renew the lock files from pyproject.toml
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate --upgrade pyproject.toml --extra build -o requirements.lock
	$(VENV)/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate -c requirements.lock pyproject.toml --extra build --extra dev -o requirements-dev.lock

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
