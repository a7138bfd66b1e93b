# Two commands: `make demo` and `make test`. Everything that they need is set up under build/.
PYTHON ?= python3
VENV   := build/venv
BIN    := $(VENV)/bin
# A file at a time: what its tests share is started once.
PYTEST  = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
NAME   ?= routing
MINUTES ?= 10
WORKERS ?= 2
# Tests of what setup.py compiles: those without Envoys, and one file with.
HOT     = $(addprefix tests/,$(addprefix ext_proc/,batching broker edge gathering http2 node processing racing server telemetry \
          upstream wire) mesh/model_cache mesh/routing integration/racing/test_races.py)

# Bytecode is kept, whatever the caller's environment says, and lies beside the environments: compiling all that a server
# imports takes longer than everything else that it does at its start.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache

.PHONY: demo test lint unit peers test-compiled test-peers bench soak fuzz protos docs site envoy-configs kuma-policies policies-check dashboards clean

demo: build/.venv
	$(BIN)/tbms demo

# What the tests run on is fetched while the code is checked.
test: build/.venv
	@$(MAKE) --no-print-directory -j 5 --output-sync=target lint build/.bare build/.envoys build/.tf-client build/.triton build/.azurite build/.etcd build/.prometheus build/.chromium build/.h2load build/.mkdocs
	$(PYTEST) --ignore=tests/peers

# What is compiled passes the tests of what it was made from.
test-compiled: build/.compiled build/.envoys
	PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/build/compiled:$(CURDIR) $(PYTEST) --import-mode=append $(HOT)

# With examples that `make test` has not: there they are the same at each run.
unit: build/.venv
	$(PYTEST) --hypothesis-profile new tests/ext_proc tests/mesh

lint: build/.venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A real kube-apiserver with kubectl, a real Consul and Docker Compose, built where Go is at hand: minutes, and only once.
peers:
	integration/setup.sh peers $(PYTHON)

# What needs them; manifests among it, which kustomize (it is in kubectl) makes of deploy/.
test-peers: build/.venv build/.etcd
	$(BIN)/python -m pytest tests/peers tests/deploy

# Servers run as they do in the image: compiled.
bench: build/.venv build/.compiled
	integration/setup.sh h2load
	PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python -m integration.bench $(NAME)

# A fleet under calls while its parts die, hang and leave.
soak: build/.venv
	$(BIN)/python -m integration.soak --minutes $(MINUTES)

# Every target of tests/fuzz for its share of the time; CONTRIBUTING.md says what to do with what is found.
fuzz: build/.venv build/.fuzz
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

# Writes the committed protobuf modules anew.
protos: build/.protos
	build/protos/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. ext_proc/protos/*.proto mesh/protos/*.proto

# Writes the pages of all settings and of all metrics anew.
docs: build/.venv
	$(BIN)/python docs/generate.py

# The documentation as a site, in build/site: index.html there is its start. A link that leads nowhere is an error.
site: build/.mkdocs
	NO_MKDOCS_2_WARNING=true build/mkdocs/bin/mkdocs build --quiet

# Writes the committed Envoy configurations in envoy/ anew, and the empty map of known calls in deploy/.
envoy-configs: build/.venv
	$(BIN)/python envoy/generate.py

# Writes the committed Grafana dashboards in deploy/grafana/ anew.
dashboards: build/.venv
	$(BIN)/python deploy/grafana/generate.py

# Judges the committed policies by Kuma's schemas, where they are found, and by what live control planes made of sidecars.
policies-check: build/.venv
	$(BIN)/python kuma-policies/check.py

# Writes the policies in kuma-policies/ anew.
kuma-policies: build/.venv
	$(BIN)/python kuma-policies/generate.py

clean:
	rm -rf build

build/.venv: pyproject.toml
	integration/setup.sh venv $(PYTHON)
	@touch $@

build/.bare: pyproject.toml integration/setup.sh
	integration/setup.sh bare $(PYTHON)
	@touch $@

# Whatever is compiled follows from the sources; what they have not changed is not compiled again.
build/.compiled: setup.py build/.venv $(shell find ext_proc mesh -name '*.py')
	integration/setup.sh compiled $(PYTHON)
	@touch $@

build/.h2load:
	integration/setup.sh h2load
	@touch $@

build/.envoys: integration/setup.sh
	integration/setup.sh envoys $(PYTHON)
	@touch $@

build/.tf-client: integration/setup.sh
	integration/setup.sh tf-client $(PYTHON)
	@touch $@

build/.triton: integration/setup.sh
	integration/setup.sh triton $(PYTHON)
	@touch $@

build/.azurite: integration/setup.sh
	integration/setup.sh azurite
	@touch $@

build/.etcd: integration/setup.sh
	integration/setup.sh etcd
	@touch $@

build/.chromium: integration/setup.sh build/.venv
	integration/setup.sh chromium
	@touch $@

build/.prometheus: integration/setup.sh
	integration/setup.sh prometheus
	@touch $@

build/.fuzz: integration/setup.sh
	integration/setup.sh fuzz
	@touch $@

build/.mkdocs: integration/setup.sh
	integration/setup.sh mkdocs $(PYTHON)
	@touch $@

build/.protos: pyproject.toml
	integration/setup.sh protos $(PYTHON)
	@touch $@
