# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# `make help` lists the targets. Every target works from a clean checkout and installs what it needs.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/bin
export PATH := $(BIN):$(PATH)
# The operator's CGO_ENABLED and -trimpath apply to everything, so that builds, tests and tools share compiled packages. The race
# detector needs cgo.
export CGO_ENABLED := $(if $(findstring -race,$(TESTFLAGS)),1,0)
export GOFLAGS := $(filter-out -trimpath,$(shell go env GOFLAGS)) -trimpath

# IMG is the image that `make image` builds and `make deploy` puts into the manifests.
IMG ?= rekey.dev/rekey:v0.1.0
# VERSION is the version that the operator reports.
VERSION ?= v0.1.0
# LEVEL is the level of the cluster that `make cluster` starts: api, control or node (a node needs root).
LEVEL ?= control
# FUZZTIME is how long `make fuzz` runs each fuzz target; FUZZ selects targets, all by default.
FUZZTIME ?= 5m
FUZZ ?=
# REKEY_SIZE is the size of `make crash` and `make bench`: full or short.
REKEY_SIZE ?= full
# CLASS selects classes of docs/reliability.md for `make try` and `make mutate`, such as R2; several with commas.
CLASS ?=
# TESTFLAGS are passed to go test, such as -race or -run.
TESTFLAGS ?=
# ARGS are the operator's flags in `make run`.
ARGS ?= --operator-namespace rekey-system
KUBECTL ?= $(shell command -v kubectl || echo $(BIN)/kubectl)

LOCALCLUSTER := go -C hack/localcluster run ./cmd/localcluster

CONTROLLER_GEN := $(BIN)/controller-gen
KUSTOMIZE := $(BIN)/kustomize
GOTESTSUM := $(BIN)/gotestsum
GOLANGCI := $(BIN)/golangci-lint
PROMTOOL := $(BIN)/promtool

##@ Try it

.PHONY: demo
demo: ## Show the whole life of two credentials on a local cluster in a few minutes (KEEP=1 leaves it running)
	@hack/install-deps.sh test
	@if [ -z "$$KUBECONFIG" ]; then hack/install-deps.sh node || echo "demo: a node needs these packages; without them the operator and the programs run as processes"; fi
	@go -C hack/demo build -o $(BIN)/demo . && $(BIN)/demo

.PHONY: cluster
cluster: ## Start a local Kubernetes, leave it running and print its kubeconfig (LEVEL=api|control|node)
	@if [ "$(LEVEL)" = node ]; then hack/install-deps.sh node; fi
	@$(LOCALCLUSTER) up --level $(LEVEL) --detach

.PHONY: cluster-down
cluster-down: ## Stop the local Kubernetes that `make cluster` started
	@$(LOCALCLUSTER) down

.PHONY: run
run: ## Run the operator on this machine, against the cluster of KUBECONFIG with the CRDs installed (ARGS="--flag ...")
	go run . $(ARGS)

##@ Test

.PHONY: test
test: $(GOTESTSUM) ## Unit, simulation, API server, database and handshake tests (TESTFLAGS=-race ...)
	@hack/install-deps.sh test java peers
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" hack/test.sh test $(TESTFLAGS)

.PHONY: e2e
e2e: $(GOTESTSUM) ## End-to-end tests: the operator as a pod on a real node (needs root)
	@hack/install-deps.sh test node
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" hack/test.sh e2e $(TESTFLAGS)

.PHONY: crash
crash: $(GOTESTSUM) ## Kills at every effect, two of everything, faults in the environment; about half an hour on two cores (REKEY_SIZE=short: a sample)
	@hack/install-deps.sh test java
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" REKEY_SIZE=$(REKEY_SIZE) hack/test.sh crash $(TESTFLAGS)

.PHONY: bench
bench: $(GOTESTSUM) ## Compare speed and memory with a bare operator, into docs/benchmarks.md; about 20 minutes on two cores (REKEY_SIZE=short: 4, no page)
	@hack/install-deps.sh test
	@rm -f .cache/test/bench/$(REKEY_SIZE).json # of an earlier run
	@assets="$$($(MAKE) assets)" && status=0 && { KUBEBUILDER_ASSETS="$$assets" REKEY_SIZE=$(REKEY_SIZE) hack/test.sh bench $(TESTFLAGS) || status=$$?; } && \
	if [ "$(REKEY_SIZE)" = full ]; then go run ./test/bench/page || status=1; fi; exit $$status

.PHONY: try
try: ## Run every test of a class of docs/reliability.md (CLASS=R2)
	@hack/install-deps.sh test java peers
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" go run ./hack/try --class "$(CLASS)" $(if $(RECORD),--record)

.PHONY: record
record: ## Record the results of the last make test, make crash, make e2e and make bench in docs/reliability.md
	@go run ./hack/try --stages .cache/test
	@$(MAKE) docs

.PHONY: mutate
mutate: ## Break the product in every way listed in docs/reliability.md, one at a time; a test must fail each time (CLASS=R2, SAMPLE=3)
	@hack/install-deps.sh test java peers
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" go run ./hack/mutate --class "$(CLASS)" $(if $(RECORD),--record) $(if $(SAMPLE),--sample $(SAMPLE) --seed "$${REKEY_SEED:-$$(date -u +%Y%m%d)}")

.PHONY: fuzz
fuzz: ## Run every fuzz target, or those of FUZZ, for FUZZTIME (5m) each, one for each processor at a time
	@hack/install-deps.sh test
	@assets="$$($(MAKE) assets)" && KUBEBUILDER_ASSETS="$$assets" hack/fuzz.sh $(FUZZTIME) $(FUZZ)

.PHONY: lint
lint: $(GOLANGCI) ## Run golangci-lint over every module and kube-api-linter over api/
	@hack/lint.sh

.PHONY: verify
verify: $(CONTROLLER_GEN) $(KUSTOMIZE) $(PROMTOOL) $(GOLANGCI) ## Check generated files, license headers, go.mod, file lengths, language, reading path, links, alert rules
	@hack/verify.sh

.PHONY: ci
ci: ## Run everything that continuous integration runs
	@.ci/run

##@ Build

.PHONY: build
build: ## Build the operator as the static binary bin/rekey
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/rekey .

.PHONY: generate
generate: deepcopy manifests docs dist/install.yaml alerts ## Generate every generated file: deepcopy, CRDs, reference docs, install.yaml, alert rules

.PHONY: deepcopy
deepcopy: $(CONTROLLER_GEN) ## Generate zz_generated.deepcopy.go of the kinds
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate the CRDs in config/crd/bases
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases

.PHONY: docs
docs: ## Generate docs/api.md, docs/conditions.md and docs/reliability.md
	go run ./hack/docgen

.PHONY: dist/install.yaml
dist/install.yaml: $(KUSTOMIZE) ## Generate dist/install.yaml: config/default in one file
	@mkdir -p dist
	$(KUSTOMIZE) build config/default > dist/install.yaml.tmp && mv dist/install.yaml.tmp dist/install.yaml

.PHONY: alerts
alerts: ## Generate config/prometheus/prometheus_rule.yaml from rules.yaml
	go test ./test/packaging -count=1 -run '^TestPrometheusRuleIsGeneratedFromTheRules$$' -update

.PHONY: image
image: build ## Build the image IMG as dist/rekey.tar, without a container engine
	@mkdir -p dist
	go -C hack/localcluster run ./cmd/image --out $(CURDIR)/dist/rekey.tar --name $(IMG) --binary $(BIN)/rekey --entrypoint /rekey

.PHONY: load
load: image ## Build the image IMG and load it into the node of `make cluster LEVEL=node`
	@$(LOCALCLUSTER) load $(CURDIR)/dist/rekey.tar

.PHONY: assets
assets: ## Build the local Kubernetes (once) and print its folder, for KUBEBUILDER_ASSETS
	@if [ -n "$$KUBEBUILDER_ASSETS" ]; then echo "$$KUBEBUILDER_ASSETS"; else $(LOCALCLUSTER) assets; fi

##@ Deploy

.PHONY: deploy
deploy: $(KUSTOMIZE) $(filter $(BIN)/kubectl,$(KUBECTL)) ## Install the CRDs and the operator into the cluster of KUBECONFIG, whose nodes must have the image IMG
	@hack/deploy.sh $(IMG) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: $(KUSTOMIZE) $(filter $(BIN)/kubectl,$(KUBECTL)) ## Remove what deploy installed, and every object of rekey's kinds
	@KUBECTL=$(KUBECTL) hack/undeploy.sh

##@ Maintain

.PHONY: install-deps
install-deps: ## Install the Debian packages that the tests and a local node need
	@hack/install-deps.sh test java peers node

.PHONY: tidy
tidy: ## Run go mod tidy in every module
	@hack/modules.sh | while read -r module; do echo "go -C $$module mod tidy"; go -C "$$module" mod tidy || exit 1; done

.PHONY: clean
clean: ## Remove build results (but not the cached Kubernetes in .cache/kube)
	rm -rf $(BIN) .cache/test dist/*.tar

.PHONY: help
help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9.\/-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

# Tools, pinned in go.mod files of their own so that their requirements do not conflict, and rebuilt when these change.

$(CONTROLLER_GEN) $(KUSTOMIZE) $(GOTESTSUM): hack/tools/go.mod hack/tools/go.sum
	@echo "building $(@F)"
	@package="$$(go -C hack/tools list tool | grep -E '/$(@F)(/v[0-9]+)?$$')" && go -C hack/tools build -o $@ "$$package" && touch $@

$(GOLANGCI): hack/tools/lint/go.mod hack/tools/lint/go.sum
	@echo "building $(@F) (a few minutes the first time)"
	@go -C hack/tools/lint build -o $@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter && touch $@

$(PROMTOOL): hack/tools/promtool/go.mod hack/tools/promtool/go.sum
	@echo "building $(@F)"
	@go -C hack/tools/promtool build -tags remove_all_sd -o $@ github.com/prometheus/prometheus/cmd/promtool && touch $@

# Without an installed kubectl, use the one of the local Kubernetes.
$(BIN)/kubectl:
	@mkdir -p $(BIN)
	@assets="$$($(MAKE) assets)" && ln -sf "$$assets/kubectl" $@
