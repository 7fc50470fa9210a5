# What one does with this repository. `make` alone tells.

TOOL := go tool -modfile=go.tools.mod

.PHONY: help
help: ## Tell what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all
all: generate lint test ## Everything that a change must pass

.PHONY: build
build: ## Build the programs into bin/
	go build -o bin/ ./cmd/...

.PHONY: test
test: ## Run all tests, with the race detector
	go test -race -timeout 30m ./...

.PHONY: lint
lint: ## Vet, lint, and check that modules are tidy
	go vet ./...
	go mod tidy -diff
	$(TOOL) golangci-lint run ./...
	cd install && go tool -modfile=../go.tools.mod golangci-lint run ./...
	go -C test/kubernetes vet ./...
	go -C test/kubernetes mod tidy -diff
	go -C test/kubernetes/servers mod tidy -diff
	cd test/kubernetes && go tool -modfile=../../go.tools.mod golangci-lint run ./...
	$(TOOL) buf lint
	@# Without shellcheck and pyflakes, so that it says the same where they are and where they are not.
	@# Not among the tools: it needs an older yaml than they do.
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -shellcheck= -pyflakes=

.PHONY: chart
chart: ## Lint and render the Helm chart, and check what comes of it, and Skaffold's configuration and the workflows
	go -C install mod tidy -diff
	go -C install vet ./...
	@# Not from the cache of results: Go does not see which files helm has read.
	go -C install test -race -count 1 -timeout 30m .

.PHONY: monitoring
monitoring: ## Check dashboards, rules and runbooks with promtool, and against a Guildhall that a Prometheus scrapes
	install/monitoring/prometheus.sh bin/prometheus
	@# Race detection would be of the test alone: what it starts is built without.
	GUILDHALL_TEST_PROMETHEUS=$(CURDIR)/bin/prometheus go -C install test -count 1 -timeout 30m ./monitoring

.PHONY: e2e-kubernetes
e2e-kubernetes: ## Hold the chart against a real Kubernetes API server; builds it, the first time for minutes
	go -C test/kubernetes/servers build -o ../../../bin/kubernetes/ k8s.io/kubernetes/cmd/kube-apiserver
	go -C test/kubernetes/servers build -o ../../../bin/kubernetes/etcd go.etcd.io/etcd/server/v3
	@# Not from the cache of results: Go does not see what helm and the servers have read.
	go -C test/kubernetes test -race -count 1 -timeout 30m ./...

.PHONY: generate
generate: ## Generate the code of the protos, and Grafana's dashboards
	find api -name '*.pb.go' -delete -o -name '*.connect.go' -delete
	$(TOOL) buf generate --template api/buf.gen.yaml --path api/guildhall
	$(TOOL) buf generate --template api/openmatch/buf.gen.yaml api/openmatch
	$(TOOL) buf generate --template api/agones/buf.gen.yaml api/agones/proto
	go -C install run ./monitoring

.PHONY: checkgenerate
checkgenerate: generate ## Fail if the committed generated code is another
	@git add --intent-to-add api install/chart/files && git diff --exit-code -- api install/chart/files || \
		{ echo 'what is generated differs from what it comes from: run make generate and commit'; exit 1; }

.PHONY: simulation
simulation: ## Run SEEDS seeds of the simulation (default 10000), and its proof
	go test ./test/simulation -timeout 60m -seeds $${SEEDS:-10000} -v -run 'Seeds|Mistakes'

.PHONY: simulation-large
simulation-large: ## Simulate CROWD groups at once (default 100000), CROWDS seeds of them (default 1), and its proof
	go test ./test/simulation -timeout 2h -v -run 'Crowd' -groups $${CROWD:-100000} -crowds $${CROWDS:-1}

.PHONY: bench
bench: ## Run the benchmarks of docs/benchmarks.md
	go test ./test/e2e -run '^$$' -bench Enter -benchtime 500x -count 5

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (default 10s)
	@# Go's fuzzer fails now and then with "context deadline exceeded" when the time is up. What it has found is in a file by
	@# then, and is found again.
	@for package in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$package/*_test.go | awk '{print $$2}'); do \
			echo "$$package $$target"; \
			fuzz="go test $$package -run ^$$ -fuzz ^$$target$$ -fuzztime $${FUZZTIME:-10s}"; \
			$$fuzz || { echo "$$package $$target, once more"; $$fuzz; } || exit 1; \
		done; \
	done

.PHONY: chaos
chaos: ## Break everything for CHAOS_FOR (default 10m) while 1,000 players talk, and storm at full size
	go test ./test/chaos -run TestChaos -timeout 1h -v -count 1 -args -chaos.for=$${CHAOS_FOR:-10m} -chaos.every=2s \
		-chaos.groups=200 -chaos.players=5 -chaos.hosts=5 -chaos.rate=200 -chaos.kills=3 $(CHAOS_FLAGS)
	go test ./test/chaos -run TestStorm -timeout 1h -v -count 1 -args -chaos.storm $(CHAOS_FLAGS)

.PHONY: chaos-short
chaos-short: ## Break everything for half a minute, without the race detector
	go test ./test/chaos -timeout 15m -count 1 -v -run 'TestChaos|TestStorm' -args $(CHAOS_FLAGS)
