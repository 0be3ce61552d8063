# make stress   set everything up and run the main job
# make test     run the tests
# make check    static checks: lint, format, types, import rules
# make bench    what is timed: speed and memory against their limits
# make soak     long studies, such as the coverage of the intervals (docs/coverage.md)
# make docs     write the pages of docs/ that are made from the code
# make lock     resolve the pinned versions in locks/ anew

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which pinned set to install: with CUDA where there is an NVIDIA GPU, else for the CPU.
STACK := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: setup stress test check bench soak docs format lock clean

setup: $(VENV)/.ready-$(STACK)

$(VENV)/.ready-$(STACK): locks/$(STACK).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: Python 3.11 to 3.13 is needed; try: make setup PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --requirement locks/$(STACK).txt || \
	  $(BIN)/pip install --no-deps --extra-index-url $(TORCH_CPU_INDEX) --requirement locks/$(STACK).txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import vllm.entrypoints.openai.api_server' || \
	  { echo "error: vLLM was installed but cannot be imported; the lines above say why" >&2; exit 4; }
	touch $@

stress: setup
	$(BIN)/harness stress --multiplier 15

# Tests with a real server want the machine to themselves; the others mostly wait, three at a time.
test: setup
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not server"
	$(BIN)/python -m pytest -m server

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m pytest -o python_files='bench_*.py' --capture=no tests/bench

soak: setup
	$(BIN)/python -m pytest -o python_files='soak_*.py' tests/soak

docs: setup
	$(BIN)/python -m tests.docs.generate

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# On the CPU torchvision and its siblings are left out: serving text needs none of them, and what is published for
# CUDA breaks beside a CPU build of torch.
COMPILE = $(VENV)-lock/bin/uv pip compile pyproject.toml --extra dev --python-platform linux --python-version 3.11 \
  --no-header --no-annotate --upgrade --quiet

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(COMPILE) --extra gpu --output-file locks/gpu.txt
	$(COMPILE) --extra cpu --output-file locks/cpu.txt \
	  --no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec \
	  $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--extra-index-url $(TORCH_CPU_INDEX) --index-strategy unsafe-best-match)
	rm -r $(VENV)-lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
