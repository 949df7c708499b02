"""One process of a fairchem run, with the plugin registered wherever that process was started.

Torch elastic and submitit start workers as fresh interpreters that unpickle what they run. They get the
functions of this module, so that each worker imports and registers what its config names by itself.
"""

import copy
import logging
import socket

import torch
from fairchem.core import _cli as host
from fairchem.core.common.utils import new_trainer_context
from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.preflight import check_checkpoint
from ev2_plugin.integration.run_config import Config


class Runner(host.Runner):
    """Run a config: the host's runner, with the plugin registered and the ranks known.

    Args:
        submitted: Whether submitit starts this process; the ranks of its tasks then come from submitit's
            environment. (The host asks SLURM alone, and fails in submitit's local processes.)
    """

    def __init__(self, submitted: bool = False) -> None:
        super().__init__()
        self.submitted = submitted

    def __call__(self, config: Config) -> None:
        """Build trainer and task of `config` and run them.

        Raises:
            ImportError: If a class that the config names cannot be imported.
            ValueError: If the config names a class that does not exist.
        """
        config = copy.deepcopy(config)
        if self.submitted:
            _enter_job(config)
        if not torch.cuda.is_available() and not config["cpu"]:
            logging.warning("no CUDA device here: running on the CPU, ranks joined by gloo")
            config["cpu"] = True
            config["distributed_backend"] = "gloo"
        with only_needed_imports(config), new_trainer_context(config=config) as context:
            self.config, self.task, self.trainer = context.config, context.task, context.trainer
            if config["checkpoint"] is not None and config.get("task", {}).get("strict_load", True):
                check_checkpoint(self.trainer.model, config["checkpoint"])
            self.task.setup(self.trainer)
            self.task.run()

    def checkpoint(self, *args: object, **kwargs: object) -> DelayedSubmission:
        """Save the training state when the scheduler takes the job away; the requeued job resumes it."""
        delayed = super().checkpoint(*args, **kwargs)
        return DelayedSubmission(Runner(self.submitted), *delayed.args, **delayed.kwargs)


def _enter_job(config: Config) -> None:
    """Tell torch and the host from submitit's environment which rank of which job this is.

    Raises:
        RuntimeError: If the job asked for GPUs and there are none here.
    """
    job, submitted = TorchDistributedEnvironment(), JobEnvironment()
    if submitted.num_nodes == 1:
        job.master_addr = "localhost"  # a machine need not know itself by the name that SLURM has for it
    job.export(set_cuda_visible_devices=False, overwrite=True)
    if submitted.global_rank == 0:
        # left by a kill while submitit wrote it, it would be in the way when the job is next queued again
        pickle = submitted.paths.submitted_pickle
        pickle.with_suffix(f"{pickle.suffix}.save_tmp").unlink(missing_ok=True)
    config["submit"] = False  # the ranks are in the environment now: the host shall take them there
    # The host would write the job's pickle anew in place, to note the run's name, which is in it already. A kill in
    # that moment leaves a job that cannot start again.
    asked = config.get("slurm") or {}
    asked.pop("folder", None)
    if asked.get("gpus_per_node") and not torch.cuda.is_available():
        raise RuntimeError(f"the job asked for GPUs, but torch finds no CUDA device on {socket.gethostname()}")


_ended: list[Runner] = []


def run_rank(config: Config) -> None:
    """Run `config` in this process, whose rank is in the environment."""
    runner = Runner()
    runner(config)
    if config["world_size"] > 1:
        # A process of its own, about to end. Freeing the model would join gloo's thread under the interpreter lock,
        # for which that thread may be waiting to free its last barrier: torch 2.4 then hangs (seen on busy cores).
        _ended.append(runner)
