# All commands of the project. `make help` lists them; `make test` is what CI runs.
# Everything that is fetched lies in .tools/, everything that is built in target/ and transforms/.

CARGO ?= cargo
HOOKMILL_NATS_SERVER ?= $(CURDIR)/.tools/nats-server
export HOOKMILL_NATS_SERVER
# The tests wait more than they compute: half as many again as there are cores.
RUST_TEST_THREADS ?= $(shell expr 3 \* $$(getconf _NPROCESSORS_ONLN) / 2)
export RUST_TEST_THREADS

.DEFAULT_GOAL := help
.PHONY: help setup peers modules build demo lint test bench hostile fuzz chaos clean-tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: modules ## fetch what is pinned (nats-server) and build the guests
	@scripts/nats-server.sh

peers: ## fetch the Python, JavaScript, Go and Java clients of the tests, and what builds guests in other languages
	@scripts/python-peers.sh
	@scripts/node-peers.sh
	@scripts/guest-tools.sh
	@scripts/go-peers.sh
	@scripts/java-peers.sh

modules: ## build the WebAssembly guests into transforms/dist/
	@scripts/modules.sh

build: ## build the engine, its tests and benches
	$(CARGO) build --workspace --all-targets

demo: setup ## watch events travel, fail, be retried and arrive; ends by itself
	$(CARGO) build --workspace --all-targets
	target/debug/hookmill dev --demo

lint: ## format, clippy, import rules
	$(CARGO) fmt --all --check
	$(CARGO) fmt --all --check --manifest-path transforms/Cargo.toml
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace --test all -- structure::

test: setup peers lint build ## everything: set-up, lint, build, all tests
	$(CARGO) test --manifest-path transforms/Cargo.toml
	target/debug/hookmill test pipelines
	$(CARGO) test --workspace

bench: setup ## measure (release build): each stage alone, and the end-to-end ratios
	$(CARGO) build --release --workspace --bin hookmill --bin measure
	$(CARGO) bench --workspace --benches
	target/release/measure ratios
	target/release/measure swaps
	target/release/measure trouble
	target/release/measure lanes
	target/release/measure lanes --idle 0 --busy 2000
	target/release/measure lanes --idle 0 --busy 10000 --seconds 600
	target/release/measure many

hostile: setup ## measure (release build): what modules of strangers do to the others
	$(CARGO) build --release --workspace --bin hookmill --bin measure
	target/release/measure hostile suite
	target/release/measure hostile spin
	target/release/measure hostile spin --rate 0

FUZZ_SECONDS ?= 3600
fuzz: setup ## throw strange modules and events at the engine, each target for FUZZ_SECONDS (3600)
	$(CARGO) build --release --workspace --bin hookmill --bin fuzz
	target/release/fuzz --seconds $(FUZZ_SECONDS)

SEED ?= 1
MINUTES ?= 30
chaos: setup ## kill, cut and fill up everything for MINUTES (30) with SEED (1), then open the books
	$(CARGO) build --workspace --all-targets
	target/debug/chaos --seed $(SEED) --minutes $(MINUTES)

clean-tools: ## remove what setup fetched
	rm -rf .tools
