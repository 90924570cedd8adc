# What people type; the steps are scripts and cargo commands that can be run alone as well.

CARGO ?= cargo

.PHONY: help demo test build fmt lint doc unit times contracts sqlx loadtest test-faults mutations soak fuzz setup

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: ## Install what is missing to build, run and test (Debian, Ubuntu)
	@scripts/setup.sh test

demo: ## Generate 100,000 rows, import them, show what came of it, audit
	@scripts/setup.sh run
	@[ -e target/demo/orderstream ] || echo "Building the program with all its dependencies: three to four minutes on two cores; the next time it is there"
	$(CARGO) build --profile demo --bin orderstream
	@scripts/demo.sh target/demo/orderstream 100000

test: ## Everything: format, lints, documents, and all tests on servers of their own
	@scripts/setup.sh build
	$(CARGO) fmt --all --check
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi
	@SETUP=1 LINT=1 scripts/test.sh

build: ## The program, optimised: target/release/orderstream
	$(CARGO) build --release

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Formatting, clippy, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features failpoints -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

doc: ## The code's documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

unit: ## All tests, and the demo in small
	@scripts/test.sh

times: ## Where the time of the last tests went: the ten slowest units of their build, and the ten slowest tests
	@scripts/times.sh

contracts: ## Renew docs/openapi.json, the collection made from it, and docs/asyncapi.json
	@$(CARGO) run --quiet --bin orderstream -- api openapi >docs/openapi.json.new && mv docs/openapi.json.new docs/openapi.json
	@$(CARGO) run --quiet --bin orderstream -- api postman >docs/postman.json.new && mv docs/postman.json.new docs/postman.json
	@$(CARGO) run --quiet --bin orderstream -- api asyncapi >docs/asyncapi.json.new && mv docs/asyncapi.json.new docs/asyncapi.json

sqlx: ## Renew .sqlx after a change of SQL or schema
	@scripts/sqlx.sh

loadtest: ## Measure throughput: make loadtest ARGS='--orders 300000'
	$(CARGO) build --release --workspace
	target/release/loadtest throughput $(ARGS)

# What the series of faults does: see loadtest/README.md.
SEED ?= 1
KILLS ?= --rows 300000 --run-kills 60 --redis-kills 20 --postgres-kills 20
FLUSHALLS ?= --rows 50000 --run-kills 5 --redis-kills 0 --postgres-kills 0 --flushalls 5
OUTAGE ?= --rows 50000 --run-kills 5 --redis-kills 0 --postgres-kills 0 --postgres-away 60

test-faults: ## Every fault at every step, then kills of everything during imports: SEED=2 KILLS='--run-kills 200'
	ORDERSTREAM_FAULTS=full scripts/test.sh failpoints:: model::
	scripts/fuzz.sh 20
	$(CARGO) build --release --workspace
	target/release/loadtest kills --seed $(SEED) --deadline 480 $(KILLS)
	target/release/loadtest kills --seed $(SEED) --deadline 180 $(FLUSHALLS)
	target/release/loadtest kills --seed $(SEED) --deadline 240 $(OUTAGE)

mutations: ## Take one guard away at a time, and see that a test notices
	@scripts/mutations.sh

fuzz: ## Feed everything that reads bytes from outside: make fuzz SECONDS_EACH=60
	@scripts/fuzz.sh $(or $(SECONDS_EACH),20)

soak: ## Load and faults of all kinds for long: make soak MINUTES=30
	$(CARGO) build --release --workspace
	target/release/loadtest soak --seed $(SEED) --minutes $(or $(MINUTES),10) $(ARGS)
