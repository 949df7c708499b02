"""`run-relaxations` of the plugin's trainer: structures relaxed in batches that each leaves when it is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from fairchem.core.common import distutils, gp_utils
from fairchem.core.common.registry import registry
from fairchem.core.modules.scaling.util import ensure_fitted
from fairchem.core.trainers import OCPTrainer
from torch import Tensor

from ev2_plugin.integration.potential import potential_of_trainer
from ev2_plugin.integration.relaxation_budget import budget_of
from ev2_plugin.integration.relaxation_digests import digest_of_model, digest_of_weights
from ev2_plugin.integration.relaxation_metrics import RelaxedPair, relaxation_metrics
from ev2_plugin.integration.relaxation_outputs import write_results
from ev2_plugin.integration.relaxation_parts import Parts
from ev2_plugin.integration.relaxation_progress import relaxation_progress
from ev2_plugin.integration.relaxation_settings import RelaxationRun, moves_cells, read_run
from ev2_plugin.integration.relaxation_source import DatasetSource, labels_of, periodicity_of, read_source
from ev2_plugin.integration.relaxation_stop import relax_until_stopped
from ev2_plugin.relax.folder import Progress
from ev2_plugin.relax.group import Relaxed
from ev2_plugin.relax.settings import Settings

_SCATTER = "set_deterministic_scatter"  # what some of the host's models look for


class Relaxations(OCPTrainer):
    """The host's trainer with relaxations that keep their batches full, can be killed, and lose nothing.

    Each process relaxes a share of `dataset.relax` of its own in a folder of its own; the first one puts the results
    together. Cells are relaxed by the host's loop.
    """

    @torch.no_grad()
    def run_relaxations(self) -> None:
        """Relax `dataset.relax`, and write results and errors.

        Raises:
            Stopped: If Ctrl-C or SIGTERM asked for it.
            ValueError: If a setting is wrong, ids are not unique, or the folder holds another run.
        """
        if moves_cells(self.config["task"]):
            logging.warning("cells are to be relaxed too, which fairchem's own loop does: batch by batch")
            super().run_relaxations()
            return
        if gp_utils.initialized():
            raise ValueError("relaxations give each process structures of its own: leave --gp-gpus out")
        run = read_run(self.config)
        rank, processes = distutils.get_rank(), distutils.get_world_size()
        source = read_source(self.relax_dataset, _most(run, processes))
        parts = Parts(run.folder, processes)
        if distutils.is_master():
            logging.info(
                f"relaxing {len(source)} structures in {run.folder}; a run that is killed goes on from there when it "
                "is started again with the same folder (task.relaxations_dir, or --timestamp-id)"
            )
        with self._ready_to_predict():
            self._relax(run, source.share(rank, processes), parts, rank)
        if distutils.is_master():
            parts.wait()
            self._put_together(run, source, parts)

    def _relax(self, run: RelaxationRun, source: DatasetSource, parts: Parts, rank: int) -> None:
        potential = potential_of_trainer(self)
        described = {
            "weights": digest_of_weights(self._all_weights()),
            "model": digest_of_model(self.config["model"]),
            "precision": str(potential.autocast_dtype),
            "dataset": source.digest,
        }
        budget = budget_of(run, source, potential, self.config, parts[rank])
        settings = Settings(run.optimizer, run.fmax, run.max_steps, budget)
        with relaxation_progress() if distutils.is_master() else _silent() as follow:
            relax = partial(parts.relax, rank, source, potential, settings, run.trajectories, described, follow)
            relax_until_stopped(
                lambda stop: relax(stop=stop),
                f"all work is kept in {run.folder}: the same command with --timestamp-id {self.timestamp_id} goes on "
                "from there",
            )

    def _all_weights(self) -> dict[str, Tensor]:
        """Everything on which predictions depend: the model's state, references, normalisers."""
        modules = {"": self._unwrapped_model}
        modules |= {f"elementrefs.{name}.": one for name, one in self.elementrefs.items()}
        modules |= {f"normalizers.{name}.": one for name, one in self.normalizers.items()}
        return {prefix + name: value for prefix, one in modules.items() for name, value in one.state_dict().items()}

    @contextmanager
    def _ready_to_predict(self) -> Iterator[None]:
        """Averaged weights where there are some; afterwards everything is as it was."""
        ensure_fitted(self._unwrapped_model)
        registry.register(_SCATTER, self.config["task"].get(_SCATTER, False))
        self.model.eval()
        if self.ema:
            self.ema.store()
            self.ema.copy_to()
        try:
            yield
        finally:
            if self.ema:
                self.ema.restore()
            registry.unregister(_SCATTER)

    def _put_together(self, run: RelaxationRun, source: DatasetSource, parts: Parts) -> None:
        relaxed = parts.read(source.ids)
        if run.trajectories != "none":
            parts.collect_trajectories(run.trajectory_folder)
        metrics = relaxation_metrics(_beside_labels(source, relaxed))
        folder = Path(self.config["cmd"]["results_dir"])
        for line in write_results(folder, relaxed, metrics, positions=run.write_positions):
            logging.info(line)
        values = {f"{task}_{name}": one["value"] for task, ones in metrics.items() for name, one in ones.items()}
        if values and self.logger is not None:
            self.logger.log(values, step=self.step, split="val")


def _most(run: RelaxationRun, processes: int) -> int | None:
    """Structures in `task.num_relaxation_batches` batches of every process."""
    return None if run.most_batches is None else run.most_batches * run.batch_size * processes


@contextmanager
def _silent() -> Iterator[Callable[[Progress], None]]:
    yield lambda reached: None


def _beside_labels(source: DatasetSource, relaxed: Sequence[Relaxed]) -> Iterator[RelaxedPair]:
    """Relaxed structures with what the dataset says of them; nothing if its first sample says nothing."""
    first = labels_of(source.dataset[source.indices[0]])
    if first.energy is None and first.positions is None:
        return
    for index, one in zip(source.indices, relaxed, strict=True):
        data = source.dataset[index]
        labels = labels_of(data)
        yield RelaxedPair(
            energy=one.energy,
            energy_label=labels.energy,
            positions=torch.from_numpy(one.positions.copy()),
            positions_label=labels.positions,
            free=data.fixed.reshape(-1) == 0,
            cell=data.cell.reshape(3, 3),
            pbc=periodicity_of(data),
        )
