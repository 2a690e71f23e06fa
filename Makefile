# `make` without a goal shows what there is.

SHELL       := /bin/bash -o pipefail
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help

# A control plane takes 350 MiB, and a core while it is busy: scenarios run one package at a time (-p 1).
UNIT := $$(go list ./... | grep -v /spillway/e2e/) ./e2e/house
LAB  := $$(go list ./e2e/... | grep -v /e2e/house)
TOOL := go tool -modfile=tools/go.mod

# RUN is the pattern of test names for `make test-unit` and `make test-lab`; empty: all.
RUN  ?=
# KEEP=1 leaves the clusters of `make demo` running.
KEEP ?=
# ARGS is handed to the program that `make demo`, `make bench`, `make images` and `make lab-up` run.
ARGS ?=
# VERSION is what the programs say of themselves and the tag of the image: that of the chart, which asks for it.
VERSION ?= $(shell sed -n 's/^appVersion: *//p' charts/spillway/Chart.yaml | tr -d '"')
LDFLAGS := -X github.com/spillway-dev/spillway/internal/version.version=$(VERSION)

##@ Use

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the whole way on two clusters of this machine (KEEP=1 leaves them for playing)
	KEEP=$(KEEP) go run ./e2e/demo $(ARGS)

.PHONY: lab-up
lab-up: bin/lab ## Start two clusters to play with (ARGS="--help" says how to ask for others)
	bin/lab up $(ARGS)

.PHONY: lab-down
lab-down: bin/lab ## Take away every lab of this user, also one that was killed half-way
	bin/lab down $(ARGS)

.PHONY: prerequisites
prerequisites: ## Install the Debian packages that real nodes need (root; simulated nodes need none)
	e2e/lab/prerequisites.sh

##@ Build

.PHONY: build
build: bin/spillway bin/spillwayd bin/kubectl-spillway bin/lab ## Build all programs into bin/

# The go command knows best whether something has changed.
.PHONY: bin/spillway bin/spillwayd bin/lab
bin/spillway bin/spillwayd:
	CGO_ENABLED=0 go build -ldflags '$(LDFLAGS)' -o $@ ./cmd/$(@F)

bin/lab:
	CGO_ENABLED=0 go build -o $@ ./e2e/lab/cmd/lab

bin/kubectl-spillway: bin/spillway
	ln -sf spillway $@

.PHONY: images
images: ## Write the container images to bin/images (ARGS="--platforms linux/arm64" for others than both)
	go run ./build/images --platforms linux/amd64,linux/arm64 --out bin/images --version $(VERSION) $(ARGS)

.PHONY: generate
<<<<<<< HEAD
generate: ## Write deepcopy functions and CRDs from the types, and the pages of docs/ that say what is in the code
	$(TOOL) controller-gen object crd:crdVersions=v1 paths=./peering/v1alpha1/... output:crd:dir=charts/spillway/files/crds
	go run ./build/docs
=======
generate: ## Write deepcopy functions and CRDs from the types, and docs/metrics.md from what is measured
	$(TOOL) controller-gen object crd:crdVersions=v1 paths=./peering/v1alpha1/... output:crd:dir=charts/spillway/files/crds
	go test ./cmd/spillwayd -run '^TestMetrics_Page$$' -update
>>>>>>> main

.PHONY: clean
clean: ## Remove what was built here (the lab's binaries stay in the user's cache)
	rm -rf bin

##@ Check

# The steps of `make test`, cheap ones first.
STEPS := verify-generate vet lint test-unit test-lab

.PHONY: test
test: ## Run every check: generated files, vet, staticcheck, unit and API tests, scenarios on real clusters
	@began=$$SECONDS; \
	for step in $(STEPS); do \
		echo "── $$step …"; s=$$SECONDS; \
		$(MAKE) --no-print-directory $$step || { echo "── $$step FAILED after $$((SECONDS - s)) s. Again, alone: make $$step"; exit 1; }; \
		echo "── $$step: ok, $$((SECONDS - s)) s"; \
	done; \
	echo "── all passed in $$((SECONDS - began)) s"

.PHONY: test-unit
test-unit: ## Run what needs no cluster: pure steps, loops, API rules, rules of the house (RUN=pattern)
	go test -race -timeout 5m $(if $(RUN),-run '$(RUN)') $(UNIT)

.PHONY: test-lab
test-lab: bin/lab ## Run the scenarios on real clusters (RUN=pattern); builds the lab's binaries first
	bin/lab build
	go build -race $(LAB)
	go test -race -count=1 -p 1 -timeout 25m -v $(if $(RUN),-run '$(RUN)') $(LAB)

.PHONY: bench
bench: bin/lab ## Measure Spillway against plain Kubernetes; prints a table and writes JSON
	bin/lab build
	go run ./e2e/bench $(ARGS)

.PHONY: bench-tunnel
bench-tunnel: ## Measure the tunnel against bare wireguard-go (root); prints a table and writes JSON
	go run ./e2e/bench/tunnel $(ARGS)

.PHONY: bench-services
bench-services: bin/lab ## Measure how soon a Service of home is at the provider
	bin/lab build
	go run ./e2e/bench/services $(ARGS)

.PHONY: bench-streams
bench-streams: bin/lab ## Measure logs and exec of an offloaded pod against the provider's own API server (root)
	bin/lab build
	go run ./e2e/bench/streams $(ARGS)

.PHONY: bench-placement
bench-placement: ## Measure a decision over 10 000 pods and 50 peers, and a whole pass of the loop around it
	go test -run '^$$' -bench 'Decide|Pass' -benchmem ./provider/placement ./provider/placer

.PHONY: vet
vet: ## Run go vet
	go vet ./...

.PHONY: lint
lint: ## Run staticcheck
	$(TOOL) staticcheck ./...

.PHONY: verify-generate
verify-generate: ## Fail when the generated files are not those that `make generate` writes
	@go test ./cmd/spillwayd -run '^TestMetrics_Page$$'
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(TOOL) controller-gen object crd:crdVersions=v1 paths=./peering/v1alpha1/... output:object:dir=$$new output:crd:dir=$$new/crds; \
	{ diff -u peering/v1alpha1/zz_generated.deepcopy.go $$new/zz_generated.deepcopy.go && diff -ru charts/spillway/files/crds $$new/crds; } \
		|| { echo "The generated files do not belong to the types: run make generate and commit the result."; exit 1; }
	go run ./build/docs -check
