# Each target makes or refreshes .venv first; that is quick when nothing has changed.
.PHONY: demo demo-from-scratch test test-all test-core lint bench docs setup
BIN := .venv/bin
REAL_FRAMES := $(if $(REAL),--real $(REAL)) $(if $(REAL_SPLIT),--real-split $(REAL_SPLIT))

demo: setup ## the models of zoo/, dense against pruned, on streets they have not seen: a table and pictures in two minutes
	@$(BIN)/sparsevit3d demo --out demo $(REAL_FRAMES)

demo-from-scratch: setup ## the main job from nothing, training included: about 25 minutes on two cores
	@$(BIN)/sparsevit3d demo --from-scratch --out demo-from-scratch $(REAL_FRAMES)

test: setup ## the quick tests
	@$(BIN)/pytest

test-all: setup ## the slow ones as well, a tiny demo through the command line among them
	@$(BIN)/pytest -m ''

test-core: ## the core alone, in an empty venv of each Python from 3.10 to 3.13 that is here
	@scripts/test_core.sh

bench: setup ## all that README and docs quote of speed, on this machine: about 50 minutes on two cores
	@for shape in 1x3x448x800 6x3x256x704; do \
	  $(BIN)/sparsevit3d benchmark configs/fcos3d_swin-t_704x256.py --shape $$shape --out benchmarks/results/cpu_$$shape.json || exit; done
	@$(BIN)/python benchmarks/adaptation.py --out benchmarks/results/adaptation_cpu.json
	@$(BIN)/python benchmarks/growth.py --out benchmarks/results/growth_cpu.json
	@$(BIN)/python benchmarks/data.py --out benchmarks/results/data_cpu.json
	@$(BIN)/python benchmarks/loading.py --out benchmarks/results/loading_cpu.json
	@$(BIN)/python benchmarks/evaluation.py --out benchmarks/results/evaluation_cpu.json

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: setup ## the pages as a site, in work_dirs/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup:
	@scripts/setup.sh
