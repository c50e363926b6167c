# Each target makes or refreshes .venv first; that is quick when nothing has changed.
.PHONY: demo test test-all lint setup
BIN := .venv/bin
DEMO := demo

demo: setup ## the main job, from nothing to a table and pictures: about 17 minutes on two cores
	@$(BIN)/sparsevit3d demo --out $(DEMO) $(if $(REAL),--real $(REAL)) $(if $(REAL_SPLIT),--real-split $(REAL_SPLIT))

test: setup ## the quick tests
	@$(BIN)/pytest

test-all: setup ## the slow ones as well, a tiny demo through the command line among them
	@$(BIN)/pytest -m ''

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

setup:
	@scripts/setup.sh
