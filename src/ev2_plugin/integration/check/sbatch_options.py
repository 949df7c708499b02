"""Keys of the `slurm` section, which become options of sbatch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = """
account acctg_freq array batch bb bbf begin chdir cluster_constraint clusters comment constraint container
container_id contiguous core_spec cores_per_socket cpu_freq cpus_per_gpu cpus_per_task deadline delay_boot
dependency distribution error exclude exclusive export export_file extra extra_node_info get_user_env gid
gpu_bind gpu_freq gpus gpus_per_node gpus_per_socket gpus_per_task gres gres_flags hint hold ignore_pbs input
job_name kill_on_invalid_dep licenses mail_type mail_user mcs_label mem mem_bind mem_per_cpu mem_per_gpu mincpus
network nice no_kill no_requeue nodefile nodelist nodes ntasks ntasks_per_core ntasks_per_gpu ntasks_per_node
ntasks_per_socket open_mode output overcommit oversubscribe parsable partition power prefer priority profile
propagate qos quiet reboot requeue reservation resv_ports segment signal sockets_per_node spread_job stepmgr
switches test_only thread_spec threads_per_core time time_min tmp tres_bind tres_per_task uid use_min_nodes
verbose wait wait_all_nodes wckey wrap
"""
OPTIONS = tuple(_NAMES.split())
"""Of SLURM 20 to 24; a cluster may know others."""


def misspelt_options(slurm: Mapping[str, Any]) -> Iterator[str]:
    """Keys that are almost an option. What resembles none may be one of a cluster's own: sbatch will say."""
    known = set(OPTIONS)
    for key in slurm:
        name = str(key).replace("-", "_")
        close = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.85)
        if name not in known and close:
            yield f"slurm.{key} (did you mean {close[0]!r}?)"
