# Two commands: `make figures` and `make test`. Both build .venv first, from pinned requirements.
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(if $(shell command -v $(p)),$(p))))
VENV := .venv
BIN := $(VENV)/bin
# A stamp inside the environment, so that an interrupted installation never counts as complete.
READY := $(VENV)/ready

# `make figures BUNDLE=file` draws from an archive, without torch or a model. Without .venv it uses a
# smaller environment of its own.
DRAWING := $(if $(wildcard $(READY)),$(VENV),.venv-figures)

.PHONY: figures unlock config demo training pictures reproduce bench test test-all check unit browser latex workflow acceptance \
	slurm format environment clean

# Snakemake keeps only the last --config, and these two targets pass one themselves.
ifneq ($(and $(filter --config -C,$(ARGS)),$(or $(BUNDLE),$(filter reproduce,$(MAKECMDGOALS)))),)
$(error with BUNDLE and reproduce, settings come from a file: ARGS='--configfile mine.yaml')
endif

# Snakemake, once the config files in ARGS can be read.
CHECKED = PYTHONPATH=$(CURDIR)/scripts $(or $(1),$(BIN))/python -m llm_figures.workflow.command

ifdef BUNDLE
figures: $(DRAWING)/ready
	$(call CHECKED,$(DRAWING)/bin) figures --config 'bundle=$(BUNDLE)' $(ARGS)
else
figures: $(READY)
	$(CHECKED) figures $(ARGS)
endif

# Say who holds this folder, and remove the lock of a run that was killed.
unlock: $(READY)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.provenance.locks

# Generate config.yaml, the JSON schemas and docs/options.md from the option classes.
config: $(READY)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.workflow.generate_config

# Run twice from nothing, the second time on one core with other batches and shards, and compare
# every file byte by byte.
RUNS := results/_reproduce
reproduce: $(READY)
	rm -rf $(RUNS)
	$(BIN)/snakemake figures --directory $(RUNS)/first $(ARGS)
	$(BIN)/snakemake figures --directory $(RUNS)/second --cores 1 --config batch_size=16 shards=2 $(ARGS)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.provenance.reproduction $(RUNS)/first/results $(RUNS)/second/results

# Fine-tune the default model on a few facts and show what changes: 15 minutes on two cores.
demo: $(READY)
	$(BIN)/snakemake finetune_demo --configfile config/finetune-demo.yaml $(ARGS)

# Save that training every few steps and draw the figures' key numbers over it.
training: $(READY)
	$(BIN)/snakemake over_checkpoints --configfile config/training-demo.yaml --directory results/_training $(ARGS)
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.provenance.pictures results/_training/results/_models docs/figures/training

# Make the pictures of the documents again, from a run of the default model.
pictures: $(READY)
	$(BIN)/snakemake figures choices probe_presets sink_map probe_best probe_heads probe_transfer \
		error_kinds answer_choice
	PYTHONPATH=scripts $(BIN)/python -m llm_figures.provenance.pictures results/smollm2-135m docs/figures

# Measure the pipeline against other tools: hours, on an otherwise idle machine.
bench: $(READY)
	$(BIN)/snakemake figures
	$(BIN)/python benchmarks/bench.py --write $(ARGS)

environment: $(READY)

$(READY): requirements.txt requirements-figures.txt
# `import llm_figures` in a notebook is this clone's library.
$(READY): LIBRARY := --no-deps --no-build-isolation --editable .
$(READY): SIZE := 1.9 GB, some minutes
.venv-figures/ready: SIZE := 0.6 GB, half a minute
$(READY) .venv-figures/ready: PIP = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check
.venv-figures/ready: requirements-figures.txt

$(READY) .venv-figures/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "llm-figures needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing into $(@D), once: about $(SIZE)"
	@$(PYTHON) -m venv --clear $(@D) || { echo "$(@D) cannot be made: python3-venv may be missing, the \
	disk full or this folder read-only" >&2; exit 1; }
	@$(PIP) --requirement $< || { echo "$(@D) is not complete: check the network, a proxy or \
	PIP_INDEX_URL, and the free space, then make it again" >&2; exit 1; }
	$(if $(LIBRARY),@$(PIP) $(LIBRARY))
	@touch $@
	@echo "Installed into $(@D)"

# Tests run in parallel on all cores. The run of the default model is kept: test-all compares it with
# a run on Slurm.
TESTS = LLM_FIGURES_DEFAULT_RUN=$(CURDIR)/results/_acceptance $(BIN)/pytest -n auto --durations=25

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
	$(TESTS) -m "not workflow and not acceptance and not browser and not latex and not slurm and not slow"

# Tests of browser, latex and slurm are skipped where Chromium, LaTeX or Slurm is missing.
browser latex workflow acceptance slurm: $(READY)
	$(TESTS) -m "$@ and not slow"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflow

clean:
	rm -rf $(VENV) .venv-figures .snakemake results/*/
