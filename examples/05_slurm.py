"""Scale up: a run file for a cluster, a dry run, an estimate of its memory, and the run handed to SLURM.

    python 05_slurm.py --submit      on a cluster
    python 05_slurm.py               anywhere: the same job as processes of this machine

Needs data/ of 01_train.py in this folder; takes under a minute without a cluster.
"""

# %%
import subprocess
import sys
import time
from pathlib import Path


def ev2(*arguments: str) -> None:
    """Run a command, as `ev2 ...` does in a terminal."""
    subprocess.run([sys.executable, "-m", "ev2_plugin", *arguments], check=True)


if not Path("data/run.yml").exists():
    raise SystemExit("there is no data/run.yml here: run 01_train.py first, in this folder")

# %% [markdown]
# A run file includes another one and says what is different. `batch_size` is what one GPU holds; the batch of a step is
# `global_batch_size`, whatever the number of GPUs: what is missing is accumulated.

# %%
Path("cluster.yml").write_text("""\
includes: [data/run.yml]
model: {num_layers: 2}
task: {energy: total}
optim:
  batch_size: 4
  global_batch_size: 16
  max_epochs: 2
  eval_every: 6
slurm: {signal: USR2@300}  # what else sbatch shall be told; five minutes before the time limit the run is saved
""")

# %% [markdown]
# Before anything waits in a queue: does it run, and does it fit?

# %%
CLUSTER = "--submit" in sys.argv
RANKS = ["--num-nodes=2", "--num-gpus=8"] if CLUSTER else ["--num-gpus=2", "--cpu"]
ev2("check", "cluster.yml", *RANKS, "--cpu" if CLUSTER else "--structures=2")
ev2("estimate", "cluster.yml", "--train", "--memory", "80GB", *RANKS)

# %% [markdown]
# The job. On SLURM it is saved and queued again when its time is up, and goes on with the same numbers.

# %%
where = ["--slurm-timeout=24", "--slurm-mem=200"] if CLUSTER else ["--cluster=local"]
RUN = ["--mode=train", "--config-yml=cluster.yml", "--run-dir=runs/cluster", "--timestamp-id=example"]
ev2("fairchem", *RUN, *RANKS, "--submit", *where)

# %% [markdown]
# A job of SLURM is watched with `squeue`; its log and its results lie in logs/JOB and runs/cluster.

# %%
if not CLUSTER:
    best = Path("runs/cluster/checkpoints/example/best_checkpoint.pt")
    deadline = time.monotonic() + 600
    while not best.exists() and time.monotonic() < deadline:
        time.sleep(1)
    print(f"{best} is {'there' if best.exists() else 'missing: see logs/'}")
