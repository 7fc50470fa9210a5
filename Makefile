# What one does with this repository. `make` alone tells.

TOOL := go tool -modfile=go.tools.mod

.PHONY: help
help: ## Tell what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all
all: generate lint test ## Everything that a change must pass

.PHONY: build
build: ## Build the programs into bin/
	go build -o bin/ ./cmd/...

.PHONY: test
test: ## Run all tests, with the race detector
	go test -race ./...

.PHONY: lint
lint: ## Vet, lint, and check that modules are tidy
	go vet ./...
	go mod tidy -diff
	$(TOOL) golangci-lint run ./...
	$(TOOL) buf lint

.PHONY: generate
generate: ## Generate the code of the protos
	find api -name '*.pb.go' -delete -o -name '*.connect.go' -delete
	$(TOOL) buf generate --template api/buf.gen.yaml --path api/guildhall
	$(TOOL) buf generate --template api/openmatch/buf.gen.yaml api/openmatch
	$(TOOL) buf generate --template api/agones/buf.gen.yaml api/agones/proto

.PHONY: checkgenerate
checkgenerate: generate ## Fail if the committed generated code is another
	@git add --intent-to-add api && git diff --exit-code -- api || \
		{ echo 'generated code differs from the protos: run make generate and commit'; exit 1; }

.PHONY: simulation
simulation: ## Run SEEDS seeds of the simulation (default 10000), and its proof
	go test ./test/simulation -timeout 60m -seeds $${SEEDS:-10000} -v -run 'Seeds|Mistakes'

.PHONY: bench
bench: ## Run the benchmarks of docs/benchmarks.md
	go test ./test/e2e -run '^$$' -bench Enter -benchtime 500x -count 5

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (default 10s)
	@for package in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$package | awk '{print $$2}'); do \
			echo "$$package $$target"; \
			go test $$package -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-10s} || exit 1; \
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
