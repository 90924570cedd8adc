# What people type; the steps are scripts and cargo commands that can be run alone as well.

CARGO ?= cargo

.PHONY: help demo test build fmt lint doc unit test-faults sqlx loadtest setup

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

setup: ## Install the servers and compilers that are missing (Debian, Ubuntu)
	@scripts/setup.sh

demo: setup ## Generate 100,000 rows, import them, show what came of it, audit
	$(CARGO) build --release --bin orderstream
	@scripts/demo.sh target/release/orderstream 100000

test: setup lint doc unit ## Everything: format, lints, documents, and all tests on servers of their own

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

test-faults: ## Every fault at every step, one at a time
	ORDERSTREAM_FAULTS=full $(CARGO) nextest run --features failpoints --test failpoints --test server_faults --no-fail-fast

sqlx: ## Renew .sqlx after a change of SQL or schema
	@scripts/sqlx.sh

loadtest: ## Measure throughput: make loadtest ARGS='--orders 300000'
	$(CARGO) build --release --workspace
	target/release/loadtest throughput $(ARGS)
