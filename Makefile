# Two commands: `make figures` and `make test`. Both build .venv first, from pinned requirements.
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(if $(shell command -v $(p)),$(p))))
VENV := .venv
BIN := $(VENV)/bin
# A stamp inside the environment, so an interrupted installation is never taken for whole.
READY := $(VENV)/ready

# Drawing from an archive, make figures BUNDLE=file, needs neither torch nor a model, and makes do
# with an environment of its own where there is no other.
DRAWING := $(if $(wildcard $(READY)),$(VENV),.venv-figures)

.PHONY: figures config demo reproduce bench test test-all check unit browser workflow acceptance slurm \
	format environment clean

# Snakemake takes the last --config alone, and these two give one of their own.
ifneq ($(and $(filter --config -C,$(ARGS)),$(or $(BUNDLE),$(filter reproduce,$(MAKECMDGOALS)))),)
$(error with BUNDLE and reproduce, settings come from a file: ARGS='--configfile mine.yaml')
endif

ifdef BUNDLE
figures: $(DRAWING)/ready
	$(DRAWING)/bin/snakemake figures --config 'bundle=$(BUNDLE)' $(ARGS)
else
figures: $(READY)
	$(BIN)/snakemake figures $(ARGS)
endif

# What follows from the option classes: config.yaml, its JSON schema, the reference of options.
config: $(READY)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.workflow.generate_config

# Twice from nothing, the second time on one core, in other batches and shards: the same bytes?
RUNS := results/_reproduce
reproduce: $(READY)
	rm -rf $(RUNS)
	$(BIN)/snakemake figures --directory $(RUNS)/first $(ARGS)
	$(BIN)/snakemake figures --directory $(RUNS)/second --cores 1 --config batch_size=16 shards=2 $(ARGS)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.provenance.reproduction $(RUNS)/first/results $(RUNS)/second/results

# A few facts taught to the default model, and what that changes: a quarter of an hour on two cores.
demo: $(READY)
	$(BIN)/snakemake finetune_demo --configfile config/finetune-demo.yaml $(ARGS)

# How fast all of it is beside its peers: hours, on a machine with nothing else to do.
bench: $(READY)
	$(BIN)/snakemake figures
	$(BIN)/python benchmarks/bench.py --write $(ARGS)

environment: $(READY)

$(READY): requirements.txt requirements-figures.txt
# `import llm_figures` in a notebook is this clone's library.
$(READY): LIBRARY := --no-deps --no-build-isolation --editable .
.venv-figures/ready: requirements-figures.txt

$(READY) .venv-figures/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llm-figures needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	$(if $(LIBRARY),$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(LIBRARY))
	@touch $@

# Tests side by side on all cores. The default model's run is kept for test-all, which compares it
# with one on Slurm.
TESTS = LLM_FIGURES_DEFAULT_RUN=$(CURDIR)/results/_acceptance $(BIN)/pytest -n auto

test: check
	$(TESTS)
	@echo "make test-all also runs: the default model on Slurm and twice from nothing (make reproduce)," \
		"the benchmarks on a tiny model, other batches alone"

test-all: test
	$(TESTS) -m slow
	$(MAKE) reproduce

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

unit: $(READY)
	$(TESTS) -m "not workflow and not acceptance and not browser and not slurm and not slow"

# browser and slurm are skipped where Chromium or Slurm is not installed.
browser workflow acceptance slurm: $(READY)
	$(TESTS) -m "$@ and not slow"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

clean:
	rm -rf $(VENV) .venv-figures .snakemake results/*/
