# Every recipe that people and CI use. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := start

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
OUT := $(or $(CARGO_TARGET_DIR),target)/$(HOST)
# BUILT=an appliance that is there already
SLIPRING := $(or $(BUILT),$(OUT)/release/slipring)
TESTER := $(OUT)/release/tester
BENCH_PROXY := $(OUT)/release/bench-proxy
RUN := .slipring
# What README.md shows.
PICTURES := requests-n3 mean stddev failure freeze
DENY := $(shell command -v cargo-deny)

.PHONY: start run appliance build docker stop reload test model otel verify fix plots page-picture bench bench-page bench-proxy bench-overlay bench-store soak fuzz data overlay bench-query waves image help

start: run ## build, start the balancer with its replicas, and say what to try next
	@$(URLS); \
	$(SLIPRING) client --url $$url rep; \
	printf '\nTry next:\n'; \
	printf '  %-72s %s\n' \
	  "curl -i $$url/home" 'a replica answers; the header says which' \
	  "curl $$url/rep" 'the replicas' \
	  "curl -d '{\"n\":2,\"hostnames\":[\"S4\",\"S5\"]}' $$url/add" 'two more' \
	  "curl -X DELETE -d '{\"n\":1}' $$url/rm" 'one less' \
	  "$$admin/" 'all of it in a browser' \
	  "curl -N $$admin/events" 'what happens to them: kill one and watch' \
	  "$(SLIPRING) client" 'a prompt' \
	  'make stop' 'everything ends'; \
	printf '\nIts messages are in $(RUN)/log.\n'

# Where the balancer that runs listens, for a shell.
URLS = url=$$(sed -n 's/^listening on //p' $(RUN)/out | sed 's/0\.0\.0\.0/127.0.0.1/'); \
	admin=$$(sed -n 's/^admin on //p' $(RUN)/out | sed 's/0\.0\.0\.0/127.0.0.1/')

run: appliance ## start a balancer in the background, with FLAGS (like "--set KEY=VALUE"), and say where it listens
	@mkdir -p $(RUN)
	@if [ -s $(RUN)/pid ] && [ "$$(cat /proc/$$(cat $(RUN)/pid)/comm 2>/dev/null)" = slipring ]; then \
	  echo "the balancer runs already (process $$(cat $(RUN)/pid)); make stop ends it"; exit 1; fi
	@: > $(RUN)/out
	@setsid $(SLIPRING) balancer $(FLAGS) > $(RUN)/out 2> $(RUN)/log < /dev/null & echo $$! > $(RUN)/pid
	@for _ in $$(seq 600); do \
	  if [ "$$(wc -l < $(RUN)/out)" -ge 2 ]; then break; fi; \
	  if ! kill -0 "$$(cat $(RUN)/pid)" 2>/dev/null; then cat $(RUN)/log >&2; rm -f $(RUN)/pid; exit 1; fi; \
	  sleep 0.1; done
	@if [ "$$(wc -l < $(RUN)/out)" -lt 2 ]; then \
	  echo 'the balancer runs and does not say where it listens, after a minute; its last messages:' >&2; \
	  tail $(RUN)/log >&2; echo 'make stop ends it' >&2; exit 1; fi
	@cat $(RUN)/out

appliance: ## build the appliance alone
	@$(if $(BUILT),,cargo build --release -p slipring)

# One by one: together they would share their libraries' features, and each call of the other kind build them anew.
build: appliance ## build both executables, the appliance and the tester, and say where they are
	@cargo build --release -p slipring-plots
	@printf '%s\n' $(SLIPRING) $(TESTER)

docker: export SLIPRING_FLEET_RUNTIME = docker
docker: start ## the same, with containers as replicas

stop: ## stop the balancer and everything that it started
	@if ! [ -s $(RUN)/pid ]; then echo 'no balancer was started here'; exit 0; fi; \
	pid=$$(cat $(RUN)/pid); \
	if [ "$$(cat /proc/$$pid/comm 2>/dev/null)" != slipring ]; then echo 'it had ended already (if it was killed, its containers run on: make adopts them)'; rm -f $(RUN)/pid; exit 0; fi; \
	kill -TERM $$pid; \
	for _ in $$(seq 600); do kill -0 $$pid 2>/dev/null || break; sleep 0.1; done; \
	if kill -0 $$pid 2>/dev/null; then echo "it does not end; kill -9 $$pid"; exit 1; fi; \
	rm -f $(RUN)/pid; echo stopped

reload: ## let the balancer read its configuration again, and say what that changed (SLIPRING_CA, _CERT and _KEY for an admin port with TLS)
	@$(SLIPRING) client reload --admin-url "$$(sed -n 's/^admin on //p' $(RUN)/out | sed 's/0\.0\.0\.0/127.0.0.1/')"

test: ## all tests (SLIPRING_REQUIRE=docker makes a missing Docker engine a failure instead of a skip; ARCHITECTURE.md lists what else there is)
	@cargo test --workspace --quiet

otel: ## the tests of traces, which are a feature of the build
	@cargo test --workspace --features slipring/otel --quiet --test otel

verify: ## read-only checks: format, lints, docs, licences, who-knows-what, names in ARCHITECTURE.md
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps
ifdef DENY
	@cargo deny --log-level error check bans licenses sources
else
	@echo 'SKIPPED: cargo deny is not installed (cargo install cargo-deny)'; \
	case ",$${SLIPRING_REQUIRE:-}," in *,deny,*) exit 1;; esac
endif
	@.ci/rules

fix: ## rewrite what can be: format, lints, the example configuration
	@cargo clippy --quiet --fix --allow-dirty --allow-staged --workspace --all-targets
	@cargo fmt --all
	@cargo run --quiet -p slipring -- balancer --print-config > slipring.example.toml

plots: build ## draw the pictures of the README anew
	@$(TESTER) distribute --slipring $(SLIPRING) --out target/plots
	@$(TESTER) failure --slipring $(SLIPRING) --out target/plots
	@$(TESTER) failure --freeze --slipring $(SLIPRING) --out target/plots
	@mkdir -p plots/pictures
	@cp $(foreach picture,$(PICTURES),target/plots/$(picture).png) plots/pictures/
	@echo 'the rest (SVG, CSV, JSON) is in target/plots'

page-picture: ## take the picture of the page in README.md anew, in Chromium
	@PAGE_PICTURE=$(abspath plots/pictures/page.png) cargo test --workspace --quiet --test browser -- --ignored --exact measures::picture --nocapture

bench-page: ## frames a second of the page with 200 nodes, in Chromium
	@cargo test --workspace --quiet --test browser -- --ignored --exact measures::fifty_frames_a_second_with_200_nodes --nocapture

bench: appliance ## lookups and changes of every placement, and what a lookup costs beside the hash; waves and plans beside their bounds; the page's frames a second; the overlay, where its data and peers are
	@cargo bench -p slipring-hashing
	@cargo bench --quiet -p slipring-waves
	@SLIPRING=$(abspath $(SLIPRING)) cargo bench --quiet -p slipring-units --bench live
	@cargo bench --quiet -p slipring-analyser
	@if [ -x /usr/bin/chromium ] && [ -x /usr/bin/chromedriver ]; then $(MAKE) --no-print-directory bench-page; \
	else echo 'SKIPPED: the page: there is no Chromium with its chromedriver (packages chromium, chromium-driver)'; fi
	@if [ -d $(or $(DATASET),$(RUN)/data) ] && $(or $(PYTHON),python3) -c 'import duckdb, polars, pyarrow' 2> /dev/null; then \
	  $(MAKE) --no-print-directory bench-overlay; \
	else echo 'SKIPPED: the overlay: make bench-overlay DATASET=<the real data> PYTHON=<one that has duckdb, polars, pyarrow>'; fi

bench-store: ## claims and completions a second in memory, in SQLite and (where it is installed) in PostgreSQL
	@cargo bench --quiet -p slipring-store --bench claims

model: ## every order of messages of a wave on small graphs, explored: the suite's part and what takes longer, under five minutes
	@cargo test --workspace --quiet --test model -- --include-ignored

bench-proxy: appliance ## what a request costs beside nginx and HAProxy (QUICK=1, TABLE=bodies|posts|replicas|idle|http2|grpc, ARGS=...)
	@cargo build --release -p slipring-bench
	@$(BENCH_PROXY) --slipring $(SLIPRING) $(if $(QUICK),--quick) $(if $(TABLE),--table $(TABLE)) $(ARGS)

bench-overlay: appliance ## the overlay beside DuckDB and polars (DATASET=the real data; PYTHON=one that has duckdb, polars, pyarrow; ROUNDS=200, OUT=file)
	@SLIPRING=$(abspath $(SLIPRING)) DATASET=$(abspath $(or $(DATASET),$(RUN)/data)) $(if $(OUT),OUT=$(abspath $(OUT))) \
	  cargo bench --quiet -p slipring-overlay --bench peers

soak: ## ten minutes of full load with a look at memory and open files (SECONDS=60 for less)
	@SOAK_SECONDS=$(or $(SECONDS),600) cargo test --quiet --release -p slipring --test soak -- --ignored --nocapture

# Coverage for the fuzzer, which asks for no compiler but the one that is there.
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
	-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing

fuzz: ## hostile bytes, guided by coverage, for every parser of our own (SECONDS=60 each; findings stay in target/fuzz)
	@cd fuzz && RUSTFLAGS='$(FUZZ_FLAGS)' cargo build --release --target-dir ../target/fuzz
	@for target in request response chunked proxy_protocol h2c grpc_timeout query_params csv topology overlay_file analyser; do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  target/fuzz/*/release/$$target -max_total_time=$(or $(SECONDS),60) -max_len=2048 -print_final_stats=1 -verbosity=0 \
	    -artifact_prefix=target/fuzz/$$target- target/fuzz/corpus/$$target 2>target/fuzz/$$target.log \
	    || { tail -40 target/fuzz/$$target.log; exit 1; }; \
	  sed -n "s/stat::number_of_executed_units: */$$target: executions without a finding: /p" target/fuzz/$$target.log; \
	done

data: appliance ## the overlay's data: ARCHIVE=… unpacks one (tar, its folder data/), without one a set of the same shape is made
	@if [ -d $(RUN)/data ]; then echo 'it is there: $(RUN)/data'; exit 0; fi; \
	mkdir -p $(RUN)/data.new; \
	if [ -n "$(ARCHIVE)" ]; then tar -xf "$(ARCHIVE)" --strip-components=1 -C $(RUN)/data.new; \
	else $(SLIPRING) overlay generate $(RUN)/data.new; fi; \
	mv $(RUN)/data.new $(RUN)/data; echo $(RUN)/data

# The routes are the overlay's own paths over HTTP and gRPC.
OVERLAY = --set fleet.replicas=0 --set state=$(RUN)/overlay.json \
	--set pool.overlay.routes='/overlay/*,/OverlayNode/*' \
	--set pool.overlay.overlay.topology=$(or $(CONFIG),overlay/topologies/baseline.json) \
	--set pool.overlay.overlay.dataset_root=$(or $(DATASET),$(RUN)/data) \
	--set pool.overlay.fleet.start_timeout=60s
QUESTION = {\"parameter\":\"PM2.5\",\"min_value\":5,\"max_value\":35,\"limit\":100}

overlay: appliance ## start the overlay's six processes under a balancer, and say what to try next (DATASET=the folder that holds YYYYMMDD/, CONFIG=another file)
ifndef DATASET
	@$(MAKE) --no-print-directory data
endif
	@$(MAKE) --no-print-directory run FLAGS="$(OVERLAY)"
	@$(URLS); \
	for _ in $$(seq 600); do \
	  if $(SLIPRING) client --url $$admin get '/readyz?all=true' > /dev/null 2>&1; then ready=1; break; fi; sleep 0.1; done; \
	if [ -z "$${ready:-}" ]; then echo 'not all of its processes are live yet; $(RUN)/log says why (processes of other machines are started there)' >&2; fi; \
	$(SLIPRING) client --url $$url get '/rep?pool=overlay'; \
	printf '\nTry next:\n'; \
	printf '  %s\n    %s\n' \
	  "curl -d '$(QUESTION)' $$url/overlay/query" 'a question: how many rows, and where the first chunk of them is' \
	  "curl -H 'Accept: text/csv' -d '$(QUESTION)' $$url/overlay/query" 'the rows themselves' \
	  "$(SLIPRING) client --url $$url query PM2.5 5 35 --limit 10 --explain" 'the same as a table, and who did what' \
	  "$(SLIPRING) client --url $$url echo" 'what each process says of itself, gathered by one wave' \
	  "$$admin/" 'all of it in a browser' \
	  "curl '$$admin/replicas?pool=overlay'" 'the processes: name, role, state, process id' \
	  "curl -N '$$admin/events?pool=overlay'" 'what happens to them: kill one and watch' \
	  'make stop' 'everything ends'; \
	printf '\nIts messages are in $(RUN)/log. Without a balancer: slipring overlay up FILE --dataset-root FOLDER\n'

bench-query: appliance ## load on the overlay, started if it does not run (DATASET=, CONFIG=, PROFILE=); figures in .slipring
ifndef DATASET
	@$(MAKE) --no-print-directory data
endif
	@$(SLIPRING) overlay bench $(or $(CONFIG),overlay/topologies/baseline.json) --start --out $(RUN) \
	  --dataset-root $(or $(DATASET),$(RUN)/data) $(if $(PROFILE),--profile $(PROFILE))

WAVES = --set fleet.replicas=0 --set state= --set pool.waves.routes='/waves/*' \
	--set pool.waves.waves.topology=$(or $(TOPOLOGY),units/topologies/seed.json) \
	--set pool.waves.waves.config=$(or $(CONFIG),units/topologies/config.json) \
	--set pool.waves.waves.state=$(RUN)/waves

waves: appliance ## start a tree of units whose load is balanced by waves, and say what to try next (TOPOLOGY=file, CONFIG=file)
	@$(MAKE) --no-print-directory run FLAGS="$(WAVES)"
	@$(URLS); \
	for _ in $$(seq 300); do \
	  if $(SLIPRING) client --url $$admin get '/readyz?all=true' > /dev/null 2>&1; then ready=1; break; fi; sleep 0.1; done; \
	if [ -z "$${ready:-}" ]; then echo 'not all of its processes are live yet; $(RUN)/log says why' >&2; fi; \
	$(SLIPRING) client --url $$url get '/rep?pool=waves'; \
	printf '\nTry next:\n'; \
	printf '  %-66s %s\n' \
	  "$$admin/" 'the page: see it live' \
	  "curl -X POST '127.0.0.1:7999/tasks?unit=8002&n=60'" 'sixty tasks for one unit; the next wave spreads them' \
	  'curl 127.0.0.1:7999/echo' 'an Echo wave: the tree, with its load' \
	  'curl 127.0.0.1:7999/finn_ws' 'a Finn wave: a task for everyone' \
	  'curl 127.0.0.1:7999/avg-disbalance' 'tasks per core' \
	  "curl -X POST '127.0.0.1:7999/wave?algorithm=barrier'" 'a barrier, with its messages counted' \
	  "curl '$$admin/replicas?pool=waves'" 'the processes: kill one, no task is lost' \
	  'make stop' 'everything ends'; \
	printf '\nIts messages are in $(RUN)/log.\n'

image: appliance ## the container image: this executable on an empty base
	@$(SLIPRING) image

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
