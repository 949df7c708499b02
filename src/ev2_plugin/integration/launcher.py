"""fairchem's main program with the plugin registered: same flags, same configs, any number of processes."""

import argparse
import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from fairchem.core.common import distutils
from fairchem.core.common.utils import save_experiment_log, setup_logging
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ev2_plugin.integration.check.settings import check_settings
from ev2_plugin.integration.flags import fairchem_parser
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.job_script import after_the_run, before_the_run
from ev2_plugin.integration.known_keys import names_our_trainer
from ev2_plugin.integration.preflight import check_datasets
from ev2_plugin.integration.rank_groups import ranks_per_batch
from ev2_plugin.integration.run_config import (
    Config,
    build_run_config,
    expand_sweep,
    without_unread_datasets,
)
from ev2_plugin.integration.runner import Runner, run_rank
from ev2_plugin.integration.slurm import open_executor, partition_has_gpus, refusals
from ev2_plugin.training.stopping import Stopped

_TIME_LIMITS = 100
"""How often a run may reach the time limit of a job and be queued again."""

_MODES_OF_TRAINED_MODELS = ("predict", "validate", "run-relaxations")


@dataclass(frozen=True)
class Request:
    """A run that is asked for, and in which nothing was found to be wrong.

    Attributes:
        args: Flags.
        config: The run's config.
    """

    args: argparse.Namespace
    config: Config


def main(argv: Sequence[str] | None = None) -> None:
    """Run fairchem: train, validate, predict or relax, here or on a cluster.

    Args:
        argv: Arguments as the `fairchem` command takes them; those of this process if None.

    Raises:
        FileNotFoundError: If the config, one of its includes, a dataset or the checkpoint does not exist.
        ImportError: If a class that the config names cannot be imported.
        Stopped: If a signal ended the run; a training is saved.
        SubmissionError: If there is no SLURM for `--submit`, or it does not take the run.
        ValueError: If the config or an override is wrong, a dataset is empty or lacks labels, or a checkpoint does
            not fit.
    """
    start(read_request(argv))


def read_request(argv: Sequence[str] | None, parser: argparse.ArgumentParser | None = None) -> Request:
    """Read flags and config and look for mistakes: an error now is worth more than one in a queued job's log.

    Args:
        argv: As for `main`.
        parser: Of the flags; that of `ev2 fairchem` if None.

    Raises:
        FileNotFoundError: If the config, one of its includes, a dataset or the checkpoint does not exist.
        ImportError: If a class that the config names cannot be imported.
        ValueError: If the config or an override is wrong, or a dataset is empty or lacks labels.
    """
    setup_logging()
    parser = parser or fairchem_parser()
    args, overrides = parser.parse_known_args(argv)
    if args.num_gpus < 1 or args.num_nodes < 1:
        parser.error("--num-gpus (ranks per node) and --num-nodes must be at least 1")
    config = build_run_config(args, overrides)
    _check_mode_and_checkpoint(config)
    ranks_per_batch(config["gp_gpus"], config["world_size"])
    check_settings(config)
    if names_our_trainer(config):
        config = without_unread_datasets(config)
    with only_needed_imports(config):
        check_datasets(config)
    return Request(args, config)


def start(request: Request) -> None:
    """Run what is asked for; errors as in `main`."""
    args, config = request.args, request.config
    with only_needed_imports(config):
        if args.submit:
            _submit(args, config)
        elif args.num_gpus > 1:
            run_ranks(config, args.num_gpus)
        else:
            distutils.setup_env_local()
            try:
                run_rank(config)
            finally:
                distutils.cleanup()  # the host does so only after success; a caller may go on to another run


def _check_mode_and_checkpoint(config: Config) -> None:
    mode, checkpoint = config["mode"], config["checkpoint"]
    if mode is None:
        raise ValueError(f"--mode is missing: train, {', '.join(_MODES_OF_TRAINED_MODELS)}")
    if mode in _MODES_OF_TRAINED_MODELS and checkpoint is None:
        raise ValueError(f"--mode {mode} needs a trained model: --checkpoint FILE")
    if checkpoint is not None and not Path(checkpoint).exists():
        raise FileNotFoundError(f"--checkpoint {checkpoint}: no such file")


def run_ranks(config: Config, ranks: int) -> None:
    """Run one process per rank on this machine.

    Args:
        config: The run's config, as `build_run_config` returns it.
        ranks: How many processes.

    Raises:
        ChildFailedError: If a rank fails; the message carries the first rank's own error.
        Stopped: If a signal ended them; a training has been saved, if it could end its step within 30 seconds.
    """
    if config.get("optim", {}).get("num_workers", 0) > 0:
        logging.warning("several ranks on one machine: data is loaded in the ranks (optim.num_workers 0)")
        config["optim"]["num_workers"] = 0  # an open LMDB cannot be handed to a worker of a spawned rank
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port: at the default one, a second run would join the first
        max_restarts=0,
    )
    try:
        elastic_launch(launch, run_rank)(config)
    except SignalException as error:
        raise Stopped(
            f"stopped; the same command with --timestamp-id {config['timestamp_id']} goes on from the last checkpoint",
            error.sigval,
        ) from None


def _submit(args: argparse.Namespace, config: Config) -> None:
    """Hand the run, or each run of a sweep, to SLURM, or to processes of this machine."""
    configs = expand_sweep(config, args.sweep_yml) if args.sweep_yml else [config]
    executor = open_executor(args.cluster, args.logdir / "%j", _TIME_LIMITS)
    given = config.get("slurm") or {}
    if args.cluster == "slurm":
        gpus = not args.cpu and partition_has_gpus(given.get("partition", args.slurm_partition))
    else:
        gpus = not args.cpu and torch.cuda.is_available()
    executor.update_parameters(
        name=args.identifier or "ev2",
        mem_gb=args.slurm_mem,
        timeout_min=args.slurm_timeout * 60,
        slurm_partition=args.slurm_partition,
        gpus_per_node=args.num_gpus if gpus else None,  # a cluster without GPUs rejects the request for them
        cpus_per_task=config.get("optim", {}).get("num_workers", 0) + 1,
        tasks_per_node=args.num_gpus,
        nodes=args.num_nodes,
        slurm_additional_parameters={"requeue": True, **given},
        slurm_qos=args.slurm_qos,
        slurm_account=args.slurm_account,
        slurm_setup=before_the_run(),
        slurm_teardown=after_the_run([_checkpoints_of(one) for one in configs]),
        # ranks that miss one that failed end by themselves; ended by srun they would look as if killed from outside
        slurm_srun_args=["--kill-on-bad-exit=0"],
    )
    for one in configs:
        one["slurm"] = {**copy.deepcopy(executor.parameters), "folder": str(executor.folder)}
    with refusals():
        jobs = executor.map_array(Runner(submitted=True), configs)
    log_file = save_experiment_log(args, jobs, configs)
    logging.info(f"submitted {', '.join(job.job_id for job in jobs)}; listed in {log_file}")


def _checkpoints_of(config: Config) -> Path:
    return Path(config["run_dir"]).absolute() / "checkpoints" / config["timestamp_id"]
