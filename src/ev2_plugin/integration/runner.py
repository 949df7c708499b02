"""One process of a fairchem run, with the plugin registered wherever that process was started.

Torch elastic and submitit start workers as fresh interpreters that unpickle what they run. They get the
functions of this module, so that each worker imports and registers what its config names by itself.
"""

import copy
import logging
import signal
import socket
import sys
import time
from typing import Any

import torch
from fairchem.core import _cli as host
from fairchem.core.common import distutils
from fairchem.core.common.utils import new_trainer_context
from submitit import JobEnvironment
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from ev2_plugin.integration.console import quiet_unless_first
from ev2_plugin.integration.host_classes import only_needed_imports
from ev2_plugin.integration.host_reading import is_trusted
from ev2_plugin.integration.preflight import check_checkpoint
from ev2_plugin.integration.run_config import Config
from ev2_plugin.integration.run_loggers import choose_logger
from ev2_plugin.integration.run_record import recorded
from ev2_plugin.integration.training_loop import TrainingLoop
from ev2_plugin.training.stopping import Stopped

_PREEMPTION = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
"""What a scheduler sends before it takes a job away."""

_SECONDS_TO_BE_ENDED = 60


class Runner(host.Runner):
    """Run a config: the host's runner, with the plugin registered and the ranks known.

    A training of the plugin's trainer goes on from the newest whole checkpoint of its run, and ends after a whole step
    when a signal asks for it; under submitit the scheduler's signal has it queued again.

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
            Stopped: If a signal ended a training; it is saved.
            ValueError: If the config names a class that does not exist.
        """
        self.config = config  # as it was given: what is queued again must be the same run
        config = copy.deepcopy(config)
        if self.submitted:
            _enter_job(config)
        quiet_unless_first(config)
        choose_logger(config)
        if not torch.cuda.is_available() and not config["cpu"]:
            logging.warning("no CUDA device here: running on the CPU, ranks joined by gloo")
            config["cpu"] = True
            config["distributed_backend"] = "gloo"
        with only_needed_imports(config), new_trainer_context(config=config) as context:
            self.task, self.trainer = context.task, context.trainer
            if config["mode"] == "train" and isinstance(self.trainer, TrainingLoop):
                self._train(config)
            else:
                with recorded(config, self.trainer):
                    self._set_up(config)
                    self.task.run()

    def _train(self, config: Config) -> None:
        """Go on or begin, until the end or a signal."""
        signals = [signal.SIGINT, signal.SIGTERM, *([_PREEMPTION] if self.submitted else [])]
        try:
            with self.trainer.stop_signals.watched(signals) as handlers, recorded(config, self.trainer):
                if self.trainer.resume(config["checkpoint"]):
                    self.task.trainer = self.trainer  # all that its set-up does besides loading
                else:
                    self._set_up(config)
                self.task.run()
        except Stopped as stopped:
            if not self.submitted:
                raise
            if stopped.signal == _PREEMPTION:
                self._queue_again(handlers[_PREEMPTION])
            sys.exit(stopped.exit_code)  # by which the job's batch script knows that the run is to be queued again

    def _set_up(self, config: Config) -> None:
        if config["checkpoint"] is not None and config.get("task", {}).get("strict_load", True):
            check_checkpoint(self.trainer.model, config["checkpoint"], trust=is_trusted(config))
        self.task.setup(self.trainer)

    def _queue_again(self, submitit_handler: Any) -> None:
        """Let submitit queue the job again, which ends this process; it asks `checkpoint` for what to run then."""
        if distutils.is_master():
            submitit_handler(_PREEMPTION, None)
        time.sleep(_SECONDS_TO_BE_ENDED)  # by the scheduler, with the process that queues the job again
        sys.exit(-1)  # as submitit ends the process that does

    def checkpoint(self, config: Config) -> DelayedSubmission:
        """What to run when the job starts again: the same; it finds its checkpoints by its timestamp id.

        The plugin's trainer has saved at the end of a step by then, the host's is told to save. A signal may also come
        before there is a trainer.

        Args:
            config: As the job was given it.
        """
        trainer = getattr(self, "trainer", None)
        if trainer is None or isinstance(trainer, TrainingLoop) or config["mode"] != "train":
            if trainer is not None and trainer.logger is not None:
                trainer.logger.mark_preempting()
            return DelayedSubmission(Runner(self.submitted), config)
        delayed = super().checkpoint(config)
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
"""The last run of this process."""


def run_rank(config: Config) -> None:
    """Run `config` in this process, whose rank is in the environment."""
    runner = Runner()
    try:
        runner(config)
    finally:
        # Freeing the model now would join gloo's thread under the interpreter lock, for which that thread may be
        # waiting to free its last barrier: torch 2.4 then hangs (seen on busy cores, with one process too). The next
        # run frees it.
        _ended[:] = [runner]
