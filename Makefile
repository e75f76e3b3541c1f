# Dovetail's make targets. Two of them are for everybody: `make demo` and `make test`.

BIN := $(CURDIR)/bin
GO ?= go
export CGO_ENABLED ?= 0
# Programs, linters and tests without the race detector share what was compiled; ko compiles releases so too.
export GOFLAGS := $(strip $(filter-out -trimpath,$(shell $(GO) env GOFLAGS)) -trimpath)
export GOROOT := $(shell $(GO) env GOROOT)# tests that look for packages do not know it then
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The second is of Karpenter's metric karpenter_build_info and its user agent.
LDFLAGS := -s -w -X github.com/dovetail-dev/dovetail/pkg/version.version=$(VERSION) -X sigs.k8s.io/karpenter/pkg/operator.Version=$(VERSION)

CONTROLLER_GEN := $(BIN)/tools/controller-gen
GOLANGCI_LINT := $(BIN)/tools/golangci-lint
KO := $(BIN)/tools/ko
HELM := $(BIN)/tools/helm
CONTROLLER_GEN_VERSION := v0.20.1
GOLANGCI_LINT_VERSION := v2.15.0
KO_VERSION := v0.19.1
HELM_VERSION := v3.20.2
GOVULNCHECK := $(BIN)/tools/govulncheck
GOVULNCHECK_VERSION := v1.3.0

.PHONY: help
help: ## Say what each target does.
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build controlplane ## Run the story on the sandbox: from an exhausted VPC to a finished migration, and back to zero.
	$(BIN)/demo --bin-dir $(BIN) --examples examples/exhausted $(DEMO_FLAGS)

.PHONY: test
test: build controlplane ## Run every test, with the race detector.
	hack/test.sh

FUZZTIME ?= 1m
.PHONY: fuzz
fuzz: ## Fuzz every parser, each for FUZZTIME (a minute).
	hack/fuzz.sh $(FUZZTIME) pkg

.PHONY: test-long
test-long: fuzz crash test-clients soak-short ## Run what takes too long for `make test` and .ci/run.

.PHONY: crash
crash: build controlplane ## Kill the node agent 500 times, and plugins thousands of times, and look for what is lost or left.
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 60m -v -run Killed ./test/node -args -rounds 500 $(CRASH_FLAGS)

.PHONY: soak
soak: build controlplane ## Put a sandbox under random load and faults for half an hour, and check all along what must hold (SOAK_FLAGS=-seed=N replays).
	$(GO) run ./test/soak -bin-dir $(BIN) $(SOAK_FLAGS)

.PHONY: soak-short
soak-short: SOAK_FLAGS := -duration 5m
soak-short: soak

.PHONY: build
build: ## Build our binaries into bin/.
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/... ./test/demo ./test/netprobe
	ln -sf dovetail $(BIN)/kubectl-dovetail
	ln -sf dovetail $(BIN)/kubectl_complete-dovetail

# The sandbox's control plane is a module of its own: Kubernetes' staging replaces must not reach ours.
CONTROLPLANE := $(addprefix $(BIN)/,etcd kube-apiserver kube-controller-manager kube-scheduler portmap)
.PHONY: controlplane
controlplane: $(CONTROLPLANE) ## Build etcd, kube-apiserver and their like into bin/ (once, minutes).

$(CONTROLPLANE) &: hack/controlplane/go.mod hack/controlplane/build.sh
	hack/controlplane/build.sh $(BIN) controlplane
	touch $(CONTROLPLANE)

# What instances with real kubelets run besides pods, and what their clusters' users have.
NODE_PROGRAMS := $(addprefix $(BIN)/,kubelet kube-proxy kubectl)
.PHONY: node-programs
node-programs: $(NODE_PROGRAMS) $(BIN)/packages ## Build kubelet, kube-proxy and kubectl, and fetch Debian's containerd and runc.

$(NODE_PROGRAMS) &: hack/controlplane/go.mod hack/controlplane/build.sh
	hack/controlplane/build.sh $(BIN) node
	touch $(NODE_PROGRAMS)

$(BIN)/packages: hack/node/packages.sh
	hack/node/packages.sh $@

.PHONY: images
images: $(KO) ## Build images of our programs with ko, into bin/images.tar.
	hack/images/build.sh $(KO) $(VERSION) $(BIN)

# BASE is the images' base: .ko.yaml's, or none where no registry can be reached; what has none reaches no AWS API.
.PHONY: release
release: $(KO) ## Build what a release publishes into dist/: make release VERSION=v1.2.3 [BASE=none].
	$(GO) run ./hack/release -version '$(VERSION)' -ko $(KO) -base '$(BASE)' $(RELEASE_FLAGS)

# What CI has time for: a processor's minute at most when the programs are compiled already.
.PHONY: release-short
release-short: RELEASE_PLATFORM := linux/$(shell $(GO) env GOARCH)
release-short: $(KO) licenses ## Build and check a small release: an image, an archive of the command line, the charts.
	$(GO) run ./hack/release -version v0.0.0-short -ko $(KO) -base none -out $(BIN)/release -images cni -platforms $(RELEASE_PLATFORM) -cli $(RELEASE_PLATFORM)
	cd $(BIN)/release && sha256sum --check --quiet SHA256SUMS && tar xzf dovetail_*.tar.gz && ./kubectl-dovetail version
	rm -r $(BIN)/release

.PHONY: reproducible
reproducible: $(KO) ## Build the release twice, in two directories, the second time with an empty cache, and compare the checksums.
	hack/release/reproducible.sh $(KO) -base '$(BASE)' $(RELEASE_FLAGS)

.PHONY: licenses
licenses: ## Find the licence of everything that is published, and fail where one is not allowed.
	cd hack/licenses && $(GO) test -count=1 . && $(GO) run . check ../..

.PHONY: vulncheck
vulncheck: $(GOVULNCHECK) ## Look for known vulnerabilities in what our programs call: docs/dependencies.md says what each exit status means.
	hack/vulncheck.sh $(GOVULNCHECK)

.PHONY: e2e
e2e: build controlplane node-programs images $(HELM) ## Install, run, upgrade and uninstall with Helm on real kubelets (needs root).
	hack/images/previous.sh $(KO) $(BIN)/previous $(PREVIOUS)
	$(GO) test -vet=off -count=1 -v -run 'Chain|KubeProxy' ./pkg/cni ./pkg/agent/datapath
	$(GO) test -vet=off -count=1 -timeout 20m -v ./test/install

# The upstream controller is a module of its own too: it is built with the versions that it was released with.
UPSTREAM := $(BIN)/upstream-controller
$(UPSTREAM): hack/upstream/go.mod hack/upstream/build.sh
	hack/upstream/build.sh $(BIN)
	touch $@

.PHONY: test-clients
test-clients: build controlplane $(UPSTREAM) $(HELM) ## Check the sandbox with the AWS CLI, botocore and upstream Karpenter (root installs the first two).
	hack/test-clients.sh

# Core's own suite, with our versions of what it imports: little of it is not compiled yet.
REGRESSION := $(BIN)/karpenter-regression.test
.PHONY: test-upstream
test-upstream: build controlplane $(REGRESSION) ## Run core's regression suite on sandboxes: 99 specs, an hour; FOCUS and SKIP are regular expressions.
	$(GO) run ./test/upstream --bin-dir $(BIN) --suite $(REGRESSION) --focus '$(value FOCUS)' --skip '$(value SKIP)' $(UPSTREAM_FLAGS)

# A spec each of provisioning, termination and drift: what CI has time for.
.PHONY: test-upstream-short
test-upstream-short: FOCUS := Integration DaemonSet should correctly account for host ports|Termination should terminate the node and the instance on deletion|Drift Budgets should respect budgets for non-empty delete drift
test-upstream-short: test-upstream ## Run three specs of core's regression suite: provisioning, termination, drift.

.PHONY: upstream-suite
upstream-suite: $(REGRESSION)

$(REGRESSION): go.mod
	$(GO) test -c -ldflags '-s -w' -o $@ sigs.k8s.io/karpenter/test/suites/regression
	touch $@

.PHONY: bench-node
bench-node: build controlplane ## Measure pods on a node: start and end, bursts, memory, kernel, packets.
	CGO_ENABLED=0 $(GO) test ./test/benchnode -count=1 -timeout 30m -v -args -out $(BIN)/bench-node.json

.PHONY: bench-provisioner
bench-provisioner: build controlplane $(UPSTREAM) ## Measure listing, launching, scheduling and the controller, with Dovetail's parts and without.
	CGO_ENABLED=0 $(GO) test ./test/benchprovisioner -count=1 -timeout 3h -v -args -out $(BIN)/bench-provisioner.json $(BENCH_FLAGS)

.PHONY: scale
scale: build controlplane ## Measure a thousand nodes and ten thousand pods that exist in the control plane only.
	$(GO) run ./test/scale --bin-dir $(BIN) $(SCALE_FLAGS)

$(HELM):
	GOBIN=$(BIN)/tools $(GO) install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

$(GOVULNCHECK):
	GOBIN=$(BIN)/tools $(GO) install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

$(KO):
	GOBIN=$(BIN)/tools $(GO) install github.com/google/ko@$(KO_VERSION)

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Regenerate deepcopy code, CRDs, their reference and the simulator's lists; copy Karpenter's.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt crd paths=./pkg/apis/... output:crd:dir=charts/dovetail-crd/templates
	hack/karpenter-crds.sh charts/dovetail-crd/templates
	$(GO) run ./hack/reference
	$(GO) test -vet=off ./pkg/sandbox/aws -run TestTheListsOfFiltersAreCurrent -update
	$(GO) test -vet=off ./pkg/sandbox/aws -run TestTheTableOfFidelityIsCurrent -update
	$(GO) test -vet=off ./pkg/agent -run TestThePageOfTheAgentIsCurrent -update
	$(GO) test -vet=off ./iam -run TestTheCloudFormationTemplateIsCurrent -update
	$(GO) test -vet=off ./charts -run TestTheReadmesAreCurrent -update

.PHONY: verify
verify: generate ## Fail when generated files are not current.
	@git diff --exit-code -- pkg/apis pkg/sandbox/aws charts docs iam || { echo "generated files are stale: run 'make generate' and commit the result"; exit 1; }

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run the linters.
	$(GOLANGCI_LINT) run ./...

.PHONY: linters
linters: $(GOLANGCI_LINT)

# What make verify runs.
.PHONY: generators
generators: $(CONTROLLER_GEN)
	$(GO) build -o /dev/null ./hack/reference
	$(GO) test -vet=off -exec true ./pkg/sandbox/aws ./pkg/agent ./iam ./charts

$(CONTROLLER_GEN):
	GOBIN=$(BIN)/tools $(GO) install sigs.k8s.io/controller-tools/cmd/controller-gen@$(CONTROLLER_GEN_VERSION)

$(GOLANGCI_LINT):
	GOBIN=$(BIN)/tools $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
