# Everything a developer runs. `cargo build`, `cargo test -p coffer` and `cargo clippy` work without this file and
# without a wasm toolchain; what needs components says so.
#
# Host programs and tests are always built with the default members of the workspace: a narrower selection would
# unify features differently and compile dependencies a second time. `--bin` leaves out programs, not members.

.NOTPARALLEL:
.SUFFIXES:
.DEFAULT_GOAL := help

PROVIDERS := coffer-azure-key-vault
GUESTS    := coffer-guest-modes coffer-guest-wasi

# What checks the chart; a helm 3 of your own is taken with HELM=helm, and Go is not needed then.
HELM      ?= target/e2e/bin/helm
export HELM

# `host` builds the tool, so plugins/build.sh need not build it once more with fewer features.
demo test: export COMPONENTIZE := target/debug/coffer-componentize

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'The wasm toolchain comes from rustup, or from Debian packages where rustup cannot give it.'
	@echo 'WASM_TOOLCHAIN=rustup or WASM_TOOLCHAIN=debian takes that one and no other.'

.PHONY: demo
demo: steps := 3
demo: compiler ## Mount secrets from a fake Key Vault into a folder and into pods, without a cluster
	@$(call step,1,the host programs: some minutes the first time)
	@cargo build --bin coffer --bin coffer-demo --bin coffer-componentize
	@$(call step,2,the Azure provider and a hostile one: Rust to WebAssembly)
	@plugins/build.sh $(PROVIDERS) coffer-guest-modes
	@$(call step,3,run)
	@target/debug/coffer-demo

.PHONY: plugin
plugin: ## Build the Azure provider: target/components/azure-key-vault.wasm
	@plugins/build.sh $(PROVIDERS)

.PHONY: guests
guests: ## Build the guests of the tests: target/components/guest-*.wasm
	@plugins/build.sh $(GUESTS)

.PHONY: test
test: compiler tools ## Build everything and run every test that needs no cluster
	@cargo build
	@plugins/build.sh $(PROVIDERS) $(GUESTS)
	@cargo test

# `make e2e profile=debug` uses the other build; `make e2e only="rotation sanity"` runs less.
profile := release
only    :=

.PHONY: e2e
e2e: export COMPONENTIZE := target/$(profile)/coffer-componentize
e2e: steps := 4
e2e: compiler e2e-tools ## Run Coffer on a real Kubernetes node, made here (root; minutes the first time)
	@$(call step,2,coffer and the scenarios: twelve minutes the first time)
	@cargo build $(if $(filter release,$(profile)),--release) --bin coffer --bin coffer-e2e --bin coffer-componentize
	@$(call step,3,the Azure provider)
	@plugins/build.sh $(PROVIDERS)
	@$(call step,4,the cluster)
	@tests/e2e/run target/$(profile) $(only)

# GOFLAGS=-p=1 makes the build gentler.
.PHONY: e2e-tools
e2e-tools: steps := 4
e2e-tools: e2e-packages
	@$(call step,1,Kubernetes and its tools from Go modules: six minutes the first time)
	@tests/e2e/build-tools

E2E_PROGRAMS := etcd containerd ctr runc busybox ip openssl nsenter
E2E_PACKAGES := etcd-server containerd runc containernetworking-plugins busybox-static iproute2 openssl util-linux

.PHONY: e2e-packages
e2e-packages:
	@for program in $(E2E_PROGRAMS) /usr/lib/cni/bridge; do \
	    command -v $$program >/dev/null || exec .ci/install-packages $(E2E_PACKAGES); done
	@command -v go >/dev/null || { echo 'error: there is no go; install Go 1.25 or newer, from go.dev'; exit 1; }

.PHONY: lint
lint: compiler ## Check format, clippy, dependencies, shell scripts
	@cargo metadata --locked --format-version 1 >/dev/null
	@cargo fmt --all --check
	@cargo clippy --all-targets -- -D warnings
	@plugins/build.sh --lint $(PROVIDERS) $(GUESTS)
	@.ci/architecture
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; fi
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else for f in $(SCRIPTS); do bash -n $$f; done; fi

SCRIPTS := .ci/run .ci/architecture .ci/install-packages plugins/build.sh fuzz/run charts/check \
           image/stage image/sbom image/build \
           tests/e2e/run tests/e2e/node tests/e2e/image tests/e2e/build-tools

.PHONY: fuzz
fuzz: compiler cxx ## Feed made-up input to every parser of the Azure provider, FUZZ_SECONDS=20 each
	@fuzz/run

.PHONY: chart chart-golden
chart: $(filter target/e2e/bin/helm,$(HELM)) ## Check the Helm chart without a cluster: lint, golden manifests, refusals, metrics
	@charts/check
chart-golden: $(filter target/e2e/bin/helm,$(HELM)) ## Write the golden manifests of the chart anew
	@charts/check --write

# Another architecture: ARCH=arm64 BINARY=… COMPONENT=…, cross-compiled or from a machine that has it.
ARCH      ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,amd64)
BINARY    ?= target/release/coffer
COMPONENT ?= target/components/azure-key-vault.wasm
IMAGE     ?= localhost/coffer:$(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: image
image: export COMPONENTIZE := target/release/coffer-componentize
image: $(if $(filter file,$(origin BINARY) $(origin COMPONENT)),programs) ## Build the container image with buildah, podman or docker; pulls nothing
	@image/stage $(ARCH) $(BINARY) $(COMPONENT)
	@image/build $(ARCH) $(IMAGE)

.PHONY: programs
programs: compiler
	@cargo build --release --bin coffer --bin coffer-componentize
	@plugins/build.sh $(PROVIDERS)

.PHONY: bench
bench: export COMPONENTIZE := target/release/coffer-componentize
bench: compiler ## Measure the release build
	@cargo build --release --bin coffer --bin coffer-bench --bin coffer-componentize
	@plugins/build.sh $(PROVIDERS)
	@target/release/coffer-bench

.PHONY: clean
clean: ## Remove everything that was built
	@cargo clean

# ring compiles C, libFuzzer is C++; the test of the volume's writer counts system calls.
.PHONY: compiler cxx tools
compiler:
	@command -v cc >/dev/null || .ci/install-packages gcc libc6-dev
cxx:
	@command -v c++ >/dev/null || .ci/install-packages g++
tools:
	@command -v strace >/dev/null || .ci/install-packages strace
	@command -v openssl >/dev/null || .ci/install-packages openssl
	@command -v nsenter >/dev/null || .ci/install-packages util-linux

target/e2e/bin/helm: tests/e2e/cluster/go.mod tests/e2e/cluster/go.sum
	@command -v go >/dev/null || { echo 'error: helm is built with Go; install Go 1.25 or newer, or set HELM to a helm 3'; exit 1; }
	@echo 'helm from its Go module: minutes the first time'
	@tests/e2e/build-tools helm

step = printf '\n[%s/%s] %s\n' '$(1)' '$(steps)' '$(2)'
