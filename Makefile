# On a machine with Python 3.11, a C++ compiler and make, each of these sets up what it needs and runs:
#   make demo       the main job: data, training, prediction, relaxation, figures under runs/
#   make test       the tests, with coverage
#   make test-cluster  what takes several ranks, SLURM or Chromium (installed if apt and root allow it), or minutes
#   make soak       a training killed at 30 random moments ends as an undisturbed one, to the last bit (6 minutes)
#   make fuzz       every format that is read, with damaged files, FUZZ_SECONDS each (60)
#   make test-host  an ordinary (not editable) installation, from an empty folder: `ev2`, and plain `fairchem`
#   make docs       the documentation as a site under site/, warnings are errors
#   make lint       ruff, mypy, the import ladder
#   make bench      our speed and memory beside the host's on this CPU, and docs/performance.md (half an hour)
#   make bench-gpu  the same on an NVIDIA GPU
#   make bench-relaxation  structures relaxed per hour beside the host's loop; AdsorbML's post-processing (DEVICE=cuda: on a GPU)
#   make fidelity   the table of deviations from the host's model
#   make learning   every kind of recipe overfits a small set; S2EF beside the host's model (16 minutes on a busy machine)
#   make pictures   docs/cli/*.svg, the terminal in the documentation
#   make ablations  the rows of the paper's Table 1a at reduced width (10 minutes)

PYTHON ?= python3
UV := .uv/bin/uv
BIN := .venv/bin
HOST := .host-venv
DEVICE ?= cpu
export UV_HTTP_TIMEOUT ?= 600

.PHONY: demo test test-cluster soak test-host fuzz docs lint format bench bench-gpu bench-relaxation fidelity learning ablations pictures setup clean

demo: setup
	$(BIN)/ev2 demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not host and not gpu and not cluster and not slow" --cov=ev2_plugin $(PYTEST_ARGS)

test-cluster: setup
	@command -v slurmctld >/dev/null && command -v munged >/dev/null || \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } || \
		echo "SLURM is not installed; its tests skip. As root: apt-get install slurm-wlm munge"
	@command -v chromium >/dev/null || \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } || \
		echo "Chromium is not installed; tests of reports skip. As root: apt-get install chromium"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "cluster or slow" --durations=0 --durations-min=1 $(PYTEST_ARGS)

soak: setup
	$(BIN)/python -W ignore tests/soak/kill_training.py --kills $(or $(KILLS),30)

test-host: $(HOST)/.installed
	OMP_NUM_THREADS=1 $(HOST)/bin/python -m pytest -m host tests/host $(PYTEST_ARGS)

fuzz: setup
	OMP_NUM_THREADS=1 nice $(BIN)/python tests/fuzz/run.py $(or $(FUZZ_SECONDS),60)

docs: setup
	$(BIN)/python -W ignore docs/_site/config_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_ladder.py

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup
	$(BIN)/python benchmarks/run_all.py --threads 2

bench-gpu: setup
	$(BIN)/python benchmarks/run_all.py --device cuda

bench-relaxation: setup
	$(BIN)/python -W ignore::FutureWarning benchmarks/bench_relaxation.py --device $(DEVICE)
	$(BIN)/python benchmarks/bench_adsorbml.py

fidelity: setup
	$(BIN)/python benchmarks/fidelity_table.py

learning: setup
	$(BIN)/python -W ignore::FutureWarning benchmarks/learning.py

ablations: setup
	$(BIN)/python -W ignore::FutureWarning benchmarks/ablations.py

pictures: setup
	$(BIN)/python -W ignore docs/_site/terminal_pictures.py

setup: .venv/.synced

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet uv

# The stamp is older than a changed lock, project file or version, which brings the environment up to date again.
.venv/.synced: $(UV) pyproject.toml uv.lock src/ev2_plugin/__init__.py
	$(UV) sync --frozen
	touch $@

# The wheel that users get, over the locked dependencies; what the first environment built is reused.
$(HOST)/.installed: .venv/.synced $(shell find src configs -type f -not -name '*.pyc')
	UV_PROJECT_ENVIRONMENT=$(HOST) $(UV) sync --frozen --no-install-project
	rm -rf dist
	$(UV) build --quiet --wheel --out-dir dist
	$(UV) pip install --quiet --python $(HOST) --no-deps --reinstall dist/*.whl
	touch $@

clean:
	rm -rf dist .coverage .pytest_cache .mypy_cache .ruff_cache $(HOST)
