"""A training that stops anywhere and goes on ends as one that did not stop."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ev2_plugin.integration.trainer import Trainer
from ev2_plugin.integration.training_loop import TrainingLoop
from ev2_plugin.storage.checkpoint_file import read_checkpoint
from ev2_plugin.training.stopping import Stopped
from helpers import tiny_s2ef
from helpers.trainers import assert_same, make_trainer, weights

RANDOM_MODEL = {
    **tiny_s2ef.FLAT_MODEL,
    "alpha_drop": 0.2,
    "drop_path_rate": 0.2,
    "gauge_seed": 3,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny_s2ef.write_dataset("lmdb", tmp_path_factory.mktemp("slabs") / "data")


def settings(dataset: dict[str, Any], **optim: Any) -> dict[str, Any]:
    """Eight batches in two epochs, steps of one, dropout and a drawn gauge; validated and saved every other step."""
    made = tiny_s2ef.config(dataset, RANDOM_MODEL, "ev2_plugin.Trainer")
    made["optim"] |= {"batch_size": 1, "max_epochs": 2, "eval_every": 2, "checkpoint_every": 2, **optim}
    return made


def signal_at(trainer: Trainer, step: int, received: signal.Signals = signal.SIGINT) -> None:
    """Have the trainer see a signal while it computes a step."""
    compute = trainer._compute_loss

    def computing(*arguments: Any) -> torch.Tensor:
        if trainer.model.training and trainer.step == step:
            trainer.stop_signals.received = received
        return compute(*arguments)

    trainer._compute_loss = computing  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], Trainer]:
    """The run of a config that nothing disturbs, made once for all tests that compare with it."""
    runs: dict[str, Trainer] = {}

    def run(config: dict[str, Any]) -> Trainer:
        key = repr(config["optim"])
        if key not in runs:
            runs[key] = whole_run(config, tmp_path_factory.mktemp("whole"))
        return runs[key]

    return run


def whole_run(config: dict[str, Any], folder: Path) -> Trainer:
    trainer = make_trainer(config, folder)
    trainer.train(disable_eval_tqdm=True)
    return trainer


def assert_ends_alike(one: Trainer, other: Trainer) -> None:
    """To the last bit: weights, averages, optimiser, schedule, metrics, what comes next of the random numbers."""
    contents = [read_checkpoint(trainer.folder.path / "checkpoint.pt") for trainer in (one, other)]
    best = [read_checkpoint(trainer.folder.path / "best_checkpoint.pt") for trainer in (one, other)]
    for content in contents + best:
        content["config"].pop("cmd")  # folders and times
    for content in contents:
        content["random"][0].pop("python")  # libraries draw names of temporary files from it
    assert_same(weights(one), weights(other), rtol=0, atol=0)
    for here, there in (contents, best):
        assert_equal(here, there)


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (here, there) in enumerate(zip(one, other, strict=True)):
            assert_equal(here, there, f"{where}[{number}]")
    else:
        assert one == other, where


@pytest.mark.parametrize("step", [1, 2, 4, 5, 8])
def test_a_signal_ends_a_run_after_its_step_and_it_goes_on_to_the_same_end(
    undisturbed: Callable[[dict[str, Any]], Trainer], step: int, dataset: dict[str, Any], tmp_path: Path
) -> None:
    whole = undisturbed(settings(dataset))
    stopped = make_trainer(settings(dataset), tmp_path / "stopped")
    signal_at(stopped, step)
    with pytest.raises(Stopped, match=rf"stopped at step {step}, saved to .*checkpoint\.pt.*--timestamp-id test"):
        stopped.train(disable_eval_tqdm=True)
    torch.manual_seed(99)  # as if it were another process
    resumed = make_trainer(settings(dataset), tmp_path / "stopped", seed=0)
    assert resumed.resume()
    assert resumed.step == step
    resumed.train(disable_eval_tqdm=True)
    assert resumed.step == 8
    assert_ends_alike(resumed, whole)


def test_dropout_makes_the_random_numbers_matter(
    undisturbed: Callable[[dict[str, Any]], Trainer], dataset: dict[str, Any], tmp_path: Path
) -> None:
    whole = undisturbed(settings(dataset))
    stopped = make_trainer(settings(dataset), tmp_path / "stopped")
    signal_at(stopped, 3)
    with pytest.raises(Stopped):
        stopped.train(disable_eval_tqdm=True)
    resumed = make_trainer(settings(dataset), tmp_path / "stopped")
    resumed.resume()
    resumed._resumed_random_states = None
    resumed.train(disable_eval_tqdm=True)
    assert any(
        (one != other).any() for one, other in zip(weights(resumed).values(), weights(whole).values(), strict=True)
    )


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_a_run_killed_between_saves_goes_on_to_the_same_end(
    undisturbed: Callable[[dict[str, Any]], Trainer], batches: int, dataset: dict[str, Any], tmp_path: Path
) -> None:
    whole = undisturbed(settings(dataset, checkpoint_every=3))

    class Killed(BaseException):
        pass

    killed = make_trainer(settings(dataset, checkpoint_every=3), tmp_path / "killed")
    compute = killed._compute_loss

    def computing(*arguments: Any) -> torch.Tensor:
        if killed.model.training and killed.step == 3 + batches:
            raise Killed
        return compute(*arguments)

    killed._compute_loss = computing  # type: ignore[method-assign]
    with pytest.raises(Killed):
        killed.train(disable_eval_tqdm=True)
    resumed = make_trainer(settings(dataset, checkpoint_every=3), tmp_path / "killed")
    assert resumed.resume()
    assert resumed.step == 3
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


def during_validation(trainer: Trainer, step: int, action: Callable[[], None]) -> None:
    forward = trainer.outputs_of

    def outputs(batch: Any) -> Any:
        if not trainer.model.training and trainer.step == step:
            action()
        return forward(batch)

    trainer.outputs_of = outputs  # type: ignore[method-assign]


@pytest.mark.parametrize("step", [2, 8])
def test_a_signal_during_a_validation_ends_it_and_the_validation_is_made_on_resuming(
    undisturbed: Callable[[dict[str, Any]], Trainer], step: int, dataset: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(dataset, eval_batch_size=1, checkpoint_every=3)
    whole = undisturbed(config)
    stopped = make_trainer(config, tmp_path / "stopped")
    during_validation(stopped, step, lambda: setattr(stopped.stop_signals, "received", signal.SIGUSR2))
    with pytest.raises(Stopped, match=f"stopped at step {step}"):
        stopped.train(disable_eval_tqdm=True)
    saved = read_checkpoint(stopped.folder.path / "checkpoint.pt")
    assert (saved["step"], saved["validated_step"]) == (step, max(step - 2, 0))
    assert_same(saved["state_dict"], weights(stopped), rtol=0, atol=0)  # and not the averages
    resumed = make_trainer(config, tmp_path / "stopped")
    resumed.resume()
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


def test_a_kill_during_a_validation_leaves_no_validation_out(
    undisturbed: Callable[[dict[str, Any]], Trainer], dataset: dict[str, Any], tmp_path: Path
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    whole = undisturbed(settings(dataset))
    killed = make_trainer(settings(dataset), tmp_path / "killed")
    during_validation(killed, 4, die)
    with pytest.raises(Killed):
        killed.train(disable_eval_tqdm=True)
    resumed = make_trainer(settings(dataset), tmp_path / "killed")
    resumed.resume()
    seen = []
    during_validation(resumed, 4, lambda: seen.append(resumed.step))
    resumed.train(disable_eval_tqdm=True)
    assert seen  # the validation of step 4 was made
    assert_ends_alike(resumed, whole)


def test_a_schedule_on_metrics_sees_every_validation(
    undisturbed: Callable[[dict[str, Any]], Trainer], dataset: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(dataset, scheduler="ReduceLROnPlateau", scheduler_params={}, factor=0.5, patience=0)
    whole = undisturbed(config)
    stopped = make_trainer(config, tmp_path / "stopped")
    during_validation(stopped, 4, lambda: setattr(stopped.stop_signals, "received", signal.SIGTERM))
    with pytest.raises(Stopped):
        stopped.train(disable_eval_tqdm=True)
    resumed = make_trainer(config, tmp_path / "stopped")
    resumed.resume()
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


@pytest.mark.parametrize("step", [2, 4, 5])
def test_a_signal_within_a_step_of_several_batches_waits_for_its_end(
    undisturbed: Callable[[dict[str, Any]], Trainer], step: int, dataset: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(dataset, grad_accumulation_steps=3, max_epochs=3, checkpoint_every=-1)
    whole = undisturbed(config)
    stopped = make_trainer(config, tmp_path / "stopped")
    signal_at(stopped, step)
    with pytest.raises(Stopped):
        stopped.train(disable_eval_tqdm=True)
    assert stopped.step == {2: 3, 4: 6, 5: 6}[step]
    resumed = make_trainer(config, tmp_path / "stopped")
    resumed.resume()
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


def test_a_checkpoint_within_a_step_has_the_random_numbers_of_its_start(
    undisturbed: Callable[[dict[str, Any]], Trainer], dataset: dict[str, Any], tmp_path: Path
) -> None:
    config = settings(dataset, grad_accumulation_steps=3, max_epochs=3, checkpoint_every=-1, eval_every=20)
    whole = undisturbed(config)
    killed = make_trainer(config, tmp_path / "killed")
    signal_at(killed, 5)
    killed._stop_if_asked = lambda: (_ for _ in ()).throw(KeyError) if killed.asked_to_stop else None  # type: ignore[method-assign]
    with pytest.raises(KeyError):
        killed.train(disable_eval_tqdm=True)
    assert read_checkpoint(killed.folder.path / "checkpoint.pt")["step"] == 4  # the end of the epoch, within a step
    resumed = make_trainer(config, tmp_path / "killed")
    resumed.resume()
    assert resumed.step == 3
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


def test_a_finished_run_has_nothing_to_do(dataset: dict[str, Any], tmp_path: Path) -> None:
    whole = whole_run(settings(dataset), tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in whole.folder.path.iterdir()}
    again = make_trainer(settings(dataset), tmp_path)
    assert again.resume()
    again.train(disable_eval_tqdm=True)
    assert before == {path.name: path.stat().st_mtime_ns for path in whole.folder.path.iterdir()}


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    undisturbed: Callable[[dict[str, Any]], Trainer],
    dataset: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = undisturbed(settings(dataset))
    again = whole_run(settings(dataset, keep_checkpoints=2), tmp_path / "again")
    newest, before = again.folder.numbered()
    os.truncate(newest, 5000)
    resumed = make_trainer(settings(dataset), tmp_path / "again")
    resumed.resume()
    assert f"{newest} cannot be read" in caplog.text
    assert resumed.step == int(before.stem.removeprefix("checkpoint_")) == 6
    resumed.train(disable_eval_tqdm=True)
    assert_ends_alike(resumed, whole)


def test_an_older_checkpoint_of_the_same_run_is_not_silently_left_aside(
    dataset: dict[str, Any], tmp_path: Path
) -> None:
    trained = whole_run(settings(dataset), tmp_path)
    newest, before, *_ = trained.folder.numbered()
    again = make_trainer(settings(dataset), tmp_path)
    with pytest.raises(ValueError, match=r"is of the run test itself, which has come further \(checkpoint_000000008"):
        again.resume(before)
    assert again.resume(newest)
    assert again.resume(tmp_path / "checkpoints" / "test" / "checkpoint.pt")
    assert again.resume(tmp_path / "elsewhere.pt")


def test_the_run_goes_on_with_another_number_of_batches_for_a_step(dataset: dict[str, Any], tmp_path: Path) -> None:
    stopped = make_trainer(settings(dataset, batch_size=2, max_epochs=4, grad_accumulation_steps=1), tmp_path)
    signal_at(stopped, 5)
    with pytest.raises(Stopped):
        stopped.train(disable_eval_tqdm=True)
    resumed = make_trainer(settings(dataset, batch_size=1, max_epochs=4, grad_accumulation_steps=2), tmp_path)
    resumed.resume()
    assert resumed.step == 10  # five steps of two batches
    resumed.train(disable_eval_tqdm=True)
    assert resumed.step == 16
    assert resumed.scheduler.scheduler.last_epoch == 8
    assert resumed.folder.numbered()[0].name == "checkpoint_000000008.pt"


def test_random_numbers_of_other_processes_are_not_taken(
    dataset: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = whole_run(settings(dataset), tmp_path)
    path = trainer.folder.path / "checkpoint.pt"
    content = read_checkpoint(path)
    content["random"] *= 2
    resumed = make_trainer(settings(dataset, max_epochs=3), tmp_path)
    resumed.load_checkpoint(str(path), content)
    resumed.train(disable_eval_tqdm=True)
    assert "the checkpoint is of 2 processes, this run has 1" in caplog.text


@pytest.mark.parametrize("keep", [0, -1, 1.5, "all"])
def test_the_number_of_checkpoints_is_checked(keep: Any, dataset: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"optim\.keep_checkpoints must be a positive integer, got {keep!r}"):
        make_trainer(settings(dataset, keep_checkpoints=keep), tmp_path)


def test_a_disk_that_is_full_ends_the_run_and_keeps_what_was_saved(
    dataset: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(settings(dataset), tmp_path)
    save = torch.save

    def full(content: dict[str, Any], file: Any) -> None:
        if content.get("step") == 6:
            raise OSError(28, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"no space left .*what was there is kept"):
        trainer.train(disable_eval_tqdm=True)
    monkeypatch.undo()
    resumed = make_trainer(settings(dataset), tmp_path)
    assert resumed.resume()
    assert resumed.step == 4


def test_the_loop_is_the_trainers() -> None:
    assert Trainer.train is TrainingLoop.train
