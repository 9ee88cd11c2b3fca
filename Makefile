# Watchover: a menu. Bare `make` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= 0.1.0
LDFLAGS := -s -w -X main.Version=$(VERSION)

.PHONY: help build demo test test-deps test-unit sim bubble test-databases test-process test-hosts lint bench fuzz fuzz-short clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/watchover and the sample app
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/watchover ./examples/sampleapp

demo: build ## three watchers, two apps, one outage, on one screen (ARGS=--once: stop by itself)
	$(GO) build -trimpath -o bin/ ./examples/demo
	bin/demo $(ARGS)

test: test-deps test-unit sim bubble test-databases test-process test-hosts ## everything; installs the Debian packages that are missing

test-deps: ## what the tests need beside Go: iproute2, iptables, PostgreSQL, MariaDB, Redis (as root or with sudo; asks first on a terminal)
	@.ci/test-deps

# The race detector is the one part that needs a C compiler.
RACE := $(shell command -v $${CC:-gcc} >/dev/null 2>&1 && echo -race)

test-unit: ## all but the tests that start watchers as processes; with the race detector if there is a C compiler
	@[ -n "$(RACE)" ] || echo "no C compiler: the tests run without the race detector (Debian: apt-get install gcc libc6-dev)"
	$(GO) test $(RACE) -timeout 15m $$($(GO) list ./... | grep -v -e /internal/proctest -e /examples/demo)

# Servers of the tests' own, in temporary directories; the machine's services are left alone.
test-databases: ## real database servers, and watchers that move them
	$(GO) test -count=1 -timeout 20m -tags servers ./internal/database
	$(GO) test -count=1 -timeout 20m -tags servers -run '^TestServers' ./internal/proctest

# Without the race detector, which takes five times as long and has its own share in test-unit.
bubble: export SCHEDULES ?= 500
bubble: ## whole watchers with real Raft in fake time under faults, about a minute (SCHEDULES=100000 BUBBLE_TIMEOUT=0: on and on; SEED=N: from there)
	$(GO) test -count=1 -timeout $${BUBBLE_TIMEOUT:-30m} -v -run '^TestBubbleSchedules$$' ./internal/daemon

SEEDS ?= 4000
sim: ## the rules and the runner in a simulated world that goes wrong (SEEDS=1000000 FIRST=1; COVER=1: which rules it reached)
	$(GO) test -C internal/sim -count=1 -timeout 0 -run '^TestSeeds$$' -seeds $(SEEDS) -first $(or $(FIRST),1) $(if $(COVER),-rules)

test-process: ## watchers as real processes: killed, frozen, signalled; and the demo (PROCTEST_POINTS=all: killed at every point)
	$(GO) test -count=1 -timeout 45m -skip '^TestHosts' ./internal/proctest ./examples/demo

# Who is not root is root of a user namespace: the tests' network namespaces need no more.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo -exec "'unshare --user --map-root-user'")

test-hosts: export PATH := $(PATH):/usr/sbin:/sbin
test-hosts: ## watchers on hosts that are cut off from one another (network namespaces; needs ip and iptables)
	$(GO) test -count=1 -timeout 20m $(AS_ROOT) -run '^TestHosts' ./internal/proctest

lint: ## gofmt, vet, staticcheck, and who may import whom
	@unformatted=$$(gofmt -l cmd pkg internal examples); \
	 if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags crashpoints ./internal/switchover
	$(GO) vet -tags servers ./internal/database ./internal/proctest
	$(GO) tool staticcheck ./...
	$(GO) run ./internal/importrule

bench: ## benchmarks; compare with a run of the other version at the same time
	$(GO) test -run '^$$' -bench . -benchmem ./pkg/... ./internal/...

fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@for package in $$($(GO) list ./...); do \
	   for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	     echo "== $$package $$target"; \
	     $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $${FUZZTIME:-30s} -fuzzminimizetime 1x $$package; \
	   done; \
	 done

# Counted and not timed: a slow machine takes longer, and none ends a target in the middle of a try.
fuzz-short: ## each fuzz target for 500 tries beside what the tests try; a minute or two
	@$(MAKE) --no-print-directory fuzz FUZZTIME=500x

clean: ## what make built
	rm -rf bin
