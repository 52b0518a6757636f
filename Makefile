# `make` or `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR = $(DESTDIR)$(PREFIX)/bin

TARGET = $(or $(CARGO_TARGET_DIR),target)
BINARY = $(TARGET)/release/terok-shield
# A cargo that is new enough, wherever it is.
CARGO = tests/with-rust cargo

.PHONY: help build test test-debian13 lint fmt demo bench schemas install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' Makefile | while IFS='	' read -r name text; do \
		printf '  make %-14s %s\n' "$$name" "$$text"; done

build: ## the release binary, target/release/terok-shield
	$(CARGO) build --release --locked

test: ## scripts, formatting, lints, all tests; as root it installs what it needs
	@tests/with-rust --setup tests/check

test-debian13: ## the tests with containers on a Debian 13 (podman 5, pasta), which it makes with debootstrap; as root
	@tests/with-rust --setup tests/debian13

lint: ## the same without the tests
	@tests/with-rust tests/check lint

fmt: ## format the sources
	$(CARGO) fmt --all

demo: ## a shielded container in a private internet; as root, it installs what it needs
	@tests/with-rust --setup tests/demo

bench: ## measurements; as root
	@tests/with-rust --setup tests/bench/run

schemas: ## write schemas/ and tests/golden/ anew from the code; look at the difference
	UPDATE_GOLDEN=1 $(CARGO) test --quiet --locked --test golden

# Built by whoever builds, installed by root: no compiler runs here if the binary is up to date.
$(BINARY): Cargo.toml Cargo.lock build.rs $(shell find src nftables-sys profiles -type f)
	$(CARGO) build --release --locked
	@touch $@

install: $(BINARY) ## to $(PREFIX)/bin
	install -D -m 0755 $(BINARY) $(BINDIR)/terok-shield

uninstall: ## take it away; first run `terok-shield setup --uninstall` as each user who used it
	rm -f $(BINDIR)/terok-shield

clean: ## remove what was built
	$(CARGO) clean
	rm -rf target/lab
