# dbuild: build Debian packages in throwaway containers.

GO ?= go
PREFIX ?= /usr/local
DESTDIR ?=
BENCH ?=

GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
AGENT = agent/embedded/dbuild-agent-$(shell $(GO) env GOARCH)
LDFLAGS = -s -w

export CGO_ENABLED = 0

# Tests that need root or the network run only where the variable allows it.
ifeq ($(shell id -u),0)
test: export DBUILD_TEST_ROOT ?= 1
endif
test: export DBUILD_TEST_NETWORK ?= 1
test: export DBUILD_TEST_CROSS ?= 1

# GOARCH names, by Debian's: amd64 arm64 armhf riscv64 ppc64el s390x.
ARCHES = amd64 arm64 arm riscv64 ppc64le s390x
MAXSIZE = 26214400

.PHONY: help build cross test bench bench-step lint fmt docs install clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./dbuild, with the agent inside
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(AGENT) ./agent/cmd/dbuild-agent
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -tags embedagent -o dbuild ./cmd/dbuild

cross: ## build dist/dbuild-ARCH for every architecture, static, at most 25 MiB
	@set -e; mkdir -p dist; for arch in $(ARCHES); do \
		export GOOS=linux GOARCH=$$arch GOARM=7; \
		$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o agent/embedded/dbuild-agent-$$arch ./agent/cmd/dbuild-agent; \
		$(GO) build -trimpath -ldflags '$(LDFLAGS)' -tags embedagent -o dist/dbuild-$$arch ./cmd/dbuild; \
		size=$$(stat -c %s dist/dbuild-$$arch); echo "dist/dbuild-$$arch $$size bytes"; \
		[ $$size -le $(MAXSIZE) ] || { echo "dist/dbuild-$$arch is larger than $(MAXSIZE) bytes" >&2; exit 1; }; \
		! readelf -l dist/dbuild-$$arch | grep INTERP || { echo "dist/dbuild-$$arch is not static" >&2; exit 1; }; \
	done

test: ## install what is missing, then run every test (end to end as root)
	tests/setup
	$(GO) vet ./...
	$(GO) test -count=1 -timeout=28m ./...

bench: build ## compare with the peers, as root; prints the table for docs/benchmark.md
	tests/setup bench
	$(GO) run ./tests/bench -dbuild ./dbuild $(BENCH)

bench-step: build ## start to end of a container, median of 20, as root and as the user of tests/setup
	tests/setup
	@set -e; dir=$$(mktemp -d); trap 'rm -rf $$dir' EXIT; chmod 711 $$dir; \
	$(GO) test -c -tags embedagent -o $$dir/native.test ./engine/native; \
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $$dir/tool-$$($(GO) env GOARCH) ./engine/enginetest/payload; \
	install -d -m 0700 -o dbuild-test $$dir/home; \
	bench="$$dir/native.test -test.run=^$$ -test.bench=Step -test.benchtime=20x"; \
	echo "root:"; env DBUILD_TEST_ROOT=1 DBUILD_TEST_PAYLOAD=$$dir $$bench | grep Step; \
	echo "user:"; cd $$dir/home; setpriv --reuid dbuild-test --regid dbuild-test --clear-groups env TMPDIR=$$dir/home HOME=$$dir/home \
		DBUILD_NATIVE_TEST_USER=1 DBUILD_TEST_ROOT=1 DBUILD_TEST_PAYLOAD=$$dir $$bench | grep Step

lint: ## run golangci-lint; each linter's reason is in .golangci.yml
	$(GO) vet ./...
	$(GO) run $(GOLANGCI_LINT) run

fmt: ## format the code
	gofmt -l -w .

docs: ## check that links and file names in the documentation lead somewhere
	$(GO) test -count=1 -run TestDocs -v ./tests

install: build ## install below $(DESTDIR)$(PREFIX)
	install -D -m 0755 dbuild $(DESTDIR)$(PREFIX)/bin/dbuild
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/doc/dbuild README.md CHANGELOG.md LICENSE docs/*.md

clean: ## remove what build made
	rm -rf dbuild dist agent/embedded/dbuild-agent-*
