# weft: `make up` runs the whole of it on this machine, `make test` runs every test. Both set up what they need.

CARGO ?= cargo
# A workload to replay instead of the built-in one: make up TRACE=conversation.jsonl.zst
TRACE ?=
# Seeds of `make sim`; or one seed to replay, and how many steps of its history: make sim SEED=17 STEPS=40
SEEDS ?= 5000
SEED ?=
STEPS ?=
# Anything else for `weft up`: make up ARGS='--requests 500 --speed 2'
ARGS ?=

# How long `make fuzz` looks at each decoder.
FUZZ_SECONDS ?= 60

# Where `make engines` installs its engines, and builds the wheel.
ENGINES ?= target/engines

# Environments of other routers, for `make peers`.
PEERS ?= target/peers

.PHONY: help up test engines wheel sim verify fix chart containers console fuzz crash bench peers deny doc setup

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: setup ## build weft, start a cluster on loopback, replay a workload with and without it
	@echo "Building weft (release; the first time takes a few minutes) ..."
	$(CARGO) build --release --locked -p weft
	./target/release/weft up $(if $(TRACE),--trace $(TRACE)) $(ARGS)

test: setup ## every test: values, worlds, real processes on loopback
	$(CARGO) build --locked -p weft -p weft-kv-native
	$(CARGO) test --locked --workspace
	$(CARGO) test --locked -p weft-index --features shuttle --lib interleaved

engines: setup wheel ## real engines with weft, on a CPU: installs vLLM and SGLang (4 GB), checks the Python code
	$(CARGO) build --locked -p weft -p weft-kv-native
	$(ENGINES)/venv/bin/pip install --quiet --no-deps --force-reinstall $(ENGINES)/wheel/weft_kv-*.whl
	cd connectors && $(abspath $(ENGINES))/venv/bin/ruff check . ../tests/engines && $(abspath $(ENGINES))/venv/bin/ruff format --check . ../tests/engines && $(abspath $(ENGINES))/venv/bin/mypy
	PATH=$(abspath $(ENGINES))/venv/bin:$$PATH ENGINES_WEFT=$(abspath $(or $(CARGO_TARGET_DIR),target))/debug/weft $(ENGINES)/venv/bin/python -m unittest discover -v -s tests/engines

wheel: setup ## the Python wheel, into target/engines/wheel
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; }
	@# SGLang compiles its hash function when it starts.
	@command -v g++ >/dev/null && [ -e /usr/include/openssl/sha.h ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq g++ libssl-dev; }
	tests/engines/install.sh $(ENGINES)/venv
	rm -rf $(ENGINES)/wheel
	cd connectors && $(abspath $(ENGINES))/venv/bin/maturin build --release --locked --out $(abspath $(ENGINES))/wheel

sim: setup ## the simulation, with thousands of seeds (SEEDS=…), or one replayed (SEED=…)
	$(if $(SEED),SEED=$(SEED) $(if $(STEPS),STEPS=$(STEPS)),SEEDS=$(SEEDS)) $(CARGO) test --locked --workspace --test seeds -- --nocapture

verify: setup ## what a reviewer checks first; writes nothing
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items

fix: ## format, and apply what clippy can
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged

chart: setup ## the chart: helm, schemas of Kubernetes, alerts, dashboards over real processes (gets what it needs into target/chart)
	@command -v promtool >/dev/null || { echo "Installing Prometheus ..."; apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null; }
	tests/chart/tools.sh target/chart
	$(CARGO) build --locked -p weft
	WEFT=target/debug/weft target/chart/venv/bin/pytest -q -p no:cacheprovider tests/chart

containers: setup ## the chart's pods in docker: restarted in turn, the leader killed, under load (needs root and docker)
	@docker info >/dev/null 2>&1 || { echo "needs a docker that answers: apt-get install docker.io iptables, then run dockerd"; exit 1; }
	tests/chart/tools.sh target/chart
	$(CARGO) build --locked -p weft
	deploy/image/build.sh --binary target/debug/weft --tag weft:dev
	target/chart/venv/bin/python tests/containers/rolling.py --image weft:dev

console: setup ## the router's console in a headless Chromium: what it shows, by keyboard, light and dark (pictures in target/console)
	@command -v chromium >/dev/null && command -v npm >/dev/null || { echo "Installing Chromium and npm ..."; apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core $$(command -v npm >/dev/null || echo npm) >/dev/null; }
	@mkdir -p target/console && cp tests/console/package.json target/console/
	npm install --silent --no-audit --no-fund --prefix target/console
	$(CARGO) build --locked -p weft
	WEFT=target/debug/weft MODULES=$(abspath target/console) SHOTS=target/console/shots node --test tests/console/console.test.mjs

fuzz: setup ## every decoder of bytes that others send, for FUZZ_SECONDS (60) each
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	cd fuzz && for target in $$($(CARGO) fuzz list); do \
		mkdir -p corpus/$$target; \
		$(CARGO) fuzz run --sanitizer none --fuzz-dir . $$target corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 -timeout=10 -print_final_stats=1 || exit 1; \
	done

crash: setup ## the metadata log on a lying device, thousands of seeds; kill a process that writes to the disk tier, thousands of times
	WEFT_LOG_SEEDS=$(or $(ROUNDS),3000) $(CARGO) test --locked -p weft-metadata --lib log::crash_test
	WEFT_CRASH_ROUNDS=$(or $(ROUNDS),3000) $(CARGO) test --locked --release -p weft-store --test crash

bench: setup ## every benchmark, into docs/benchmarks.md
	@command -v haproxy >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq haproxy; }
	$(CARGO) build --release --locked -p weft
	./target/release/weft bench all --write docs/benchmarks.md
	@echo "Replaying the built-in workload without and with weft (two minutes) ..."
	@{ printf '\n## trace\n\n`weft up --once`: the built-in workload without and with weft, through real processes.\n\n```'; \
	   ./target/release/weft up --once --state target/bench-up --subnet 127.0.2 | grep -v '^picture:'; \
	   printf '```\n'; } >> docs/benchmarks.md

peers: setup ## the router's cost beside haproxy, vllm-router and sglang-router (installs them; Linux on x86)
	@command -v haproxy >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq haproxy; }
	@python3 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; }
	@for peer in vllm-router sglang-router; do \
		[ -d $(PEERS)/$$peer ] || { python3 -m venv $(PEERS)/$$peer && $(PEERS)/$$peer/bin/pip install --quiet $$peer; } || exit 1; done
	$(CARGO) build --release --locked -p weft
	./target/release/weft bench router --peers $(PEERS)

deny: ## licences, advisories, sources and bans of dependencies (installs cargo-deny)
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources
	$(CARGO) deny check advisories

doc: ## the book of the code
	$(CARGO) doc --workspace --no-deps --open

# rustc needs a C linker, and two dependencies (ring, zstd) compile C.
setup:
	@command -v $(CARGO) >/dev/null || { echo "weft needs Rust: install it with rustup, then run make again"; exit 1; }
	@command -v cc >/dev/null && command -v git >/dev/null || { \
		echo "Installing a C compiler and git ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq build-essential git; }
