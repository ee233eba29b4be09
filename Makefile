# Everything a user or developer calls. Each target does its own set-up; a second call starts at once.
PY := .venv/bin/python
FOLDER ?=
IMAGES ?=
MODEL ?=
SEED ?=
GPU ?=

.PHONY: help setup demo demo-base test check lint types soak bench bench-edge bench-renting bench-overhead bench-vram bench-train clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## Install what the demo needs
	@scripts/setup.sh demo

demo: setup ## Run the whole loop on this machine (GPU=simulated rents; IMAGES=folder MODEL=weights.pt for real images)
	@.venv/bin/whetstone demo $(if $(FOLDER),--folder $(FOLDER)) $(if $(IMAGES),--images $(IMAGES)) \
		$(if $(MODEL),--model $(MODEL)) $(if $(SEED),--seed $(SEED)) $(if $(GPU),--gpu $(GPU))

demo-base: setup ## Train the demo's first champion again from its committed recipe and seed
	@$(PY) -m demo.base

test: ## Check style, types and layers, and run every test
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory check
	@scripts/test.sh $(ARGS)

check: lint types ## Check style, types and layers only

lint:
	@$(PY) -m ruff check .
	@.venv/bin/lint-imports

types:
	@$(PY) -m mypy
	@$(PY) -m mypy --python-version 3.10 -p fleet_contracts -p detection -p edge_agent

soak: ## Run the long tests: SIGKILLs over the whole demo, a day offline with power cuts, an idle box
	@scripts/setup.sh test
	@$(PY) -m pytest tests -m soak $(ARGS)

bench: setup ## Measure the demo with three seeds, and on real images with IMAGES and MODEL
	@$(PY) bench/demo.py $(if $(IMAGES),real --images $(IMAGES) --model $(MODEL),line)

bench-edge: setup ## Measure the box's loop beside the bare engine and its peers (ARGS=--quick to try it)
	@scripts/peers.sh || echo "whetstone: going on without Roboflow's inference; the table says so" >&2
	@$(PY) bench/edge.py $(if $(MODEL),--model $(MODEL)) $(if $(IMAGES),--images $(IMAGES)) $(ARGS)

bench-renting: setup ## Play the renting policy on the simulated market, beside rivals and the optimum
	@$(PY) bench/renting.py $(ARGS)

bench-overhead: setup ## Measure from enough labels to the first step on a rented machine (ARGS=--write for the docs)
	@$(PY) bench/renting_overhead.py $(ARGS)

bench-vram: setup ## Set the memory estimate beside measured peaks and other estimators (ARGS=--quick to try it)
	@$(PY) bench/vram.py $(ARGS)

bench-train: setup ## Train beside plain YOLO.train(), and under ten SIGKILLs (ARGS=--quick to try it)
	@$(PY) bench/train.py $(if $(IMAGES),--images $(IMAGES)) $(ARGS)

clean: ## Remove what the targets above made, but for the packages
	@rm -rf .whetstone-demo* .whetstone-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
