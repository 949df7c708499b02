"""`ev2 fairchem` in one process: every mode, on every format, with the host's trainers."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry

import ev2_plugin
from ev2_plugin.integration.host_classes import import_class, named_classes, only_needed_imports
from ev2_plugin.integration.launcher import main
from ev2_plugin.integration.registration import SHORT_NAMES, register
from helpers import tiny_s2ef

STEPS_PER_EPOCH = tiny_s2ef.NUM_STRUCTURES // 2
CASES = {
    "flat-lmdb": ("lmdb", tiny_s2ef.FLAT_MODEL, "equiformerv2_forces"),
    "hydra-single-file": ("single_point_lmdb", tiny_s2ef.HYDRA_MODEL, "ocp"),
    "flat-aselmdb": ("ase_db", tiny_s2ef.FLAT_MODEL, "ocp"),
    "flat-own-trainer": ("lmdb", tiny_s2ef.FLAT_MODEL, "ev2_plugin.Trainer"),
    "hydra-own-trainer": ("ase_db", tiny_s2ef.HYDRA_MODEL, "ev2"),
}


pytestmark = pytest.mark.usefixtures("restored_process_state")


@dataclass(frozen=True)
class Run:
    """A dataset, a config and a folder in which runs are started."""

    folder: Path
    config_yml: Path

    def start(self, mode: str, identifier: str, *arguments: str) -> Path:
        """Run the launcher; return the folder of the run's checkpoints, its name being the run's."""
        before = set(self.folder.glob(f"checkpoints/*-{identifier}-*"))
        flags = ["--mode", mode, "--config-yml", str(self.config_yml), "--run-dir", str(self.folder)]
        main([*flags, "--cpu", "--identifier", identifier, *arguments])
        (new,) = set(self.folder.glob(f"checkpoints/*-{identifier}-*")) - before
        return new

    def results(self, run: Path, name: str) -> dict[str, np.ndarray]:
        (path,) = (self.folder / "results" / run.name).glob(name)
        with np.load(path) as file:
            return dict(file)


def make_run(folder: Path, case: str) -> Run:
    dataset_format, model, trainer = CASES[case]
    dataset = tiny_s2ef.write_dataset(dataset_format, folder / "data")
    config = tiny_s2ef.config(dataset, model, trainer)
    return Run(folder, tiny_s2ef.write_config(folder / "run.yml", config))


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=False)


@pytest.mark.parametrize("case", CASES)
def test_train_validate_predict_relax_resume(case: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, case)

    trained = run.start("train", "train")
    checkpoint = load(trained / "checkpoint.pt")
    assert checkpoint["step"] == STEPS_PER_EPOCH
    assert (trained / "best_checkpoint.pt").is_file()
    assert all(torch.isfinite(value).all() for value in checkpoint["state_dict"].values())
    source = ["--checkpoint", str(trained / "checkpoint.pt")]

    run.start("validate", "validate", *source)

    predictions = run.results(run.start("predict", "predict", *source), "*_predictions.npz")
    assert predictions["energy"].size == tiny_s2ef.NUM_STRUCTURES
    assert predictions["forces"].shape[1] == 3
    assert np.isfinite(predictions["forces"]).all()

    relaxed = run.results(run.start("run-relaxations", "relax", *source), "relaxed_positions.npz")
    assert relaxed["pos"].shape == (8 * tiny_s2ef.NUM_STRUCTURES, 3)

    resumed = run.start("train", "resume", *source, "--optim.max_epochs=2")
    assert load(resumed / "checkpoint.pt")["step"] == 2 * STEPS_PER_EPOCH


def test_trained_models_serve_without_the_training_data(tmp_path: Path) -> None:
    run = make_run(tmp_path, "flat-own-trainer")
    trained = run.start("train", "train")
    arguments = ["--checkpoint", str(trained / "checkpoint.pt"), "--dataset.train.src=gone"]
    run.start("validate", "validate", *arguments)
    run.start("predict", "predict", *arguments)
    run.start("run-relaxations", "relax", *arguments)
    with pytest.raises(FileNotFoundError, match="dataset.train.src: gone does not exist"):
        run.start("train", "again", "--dataset.train.src=gone")


def test_a_second_run_starts_afresh_and_a_named_one_resumes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = make_run(tmp_path, "flat-lmdb")
    first = run.start("train", "same")
    second = run.start("train", "same")
    assert first != second
    assert load(second / "checkpoint.pt")["step"] == STEPS_PER_EPOCH
    assert "resuming job" not in caplog.text

    arguments = ["--mode", "train", "--config-yml", str(run.config_yml), "--run-dir", str(tmp_path), "--cpu"]
    main([*arguments, "--timestamp-id", second.name, "--optim.max_epochs=2"])
    assert f"Previous checkpoint found at {second}" in caplog.text
    assert load(second / "checkpoint.pt")["step"] == 2 * STEPS_PER_EPOCH


def test_a_failed_run_leaves_the_process_able_to_run_another(tmp_path: Path) -> None:
    run = make_run(tmp_path, "flat-lmdb")
    with pytest.raises(ValueError, match="unknown model key 'lmaxlist'; did you mean 'lmax_list'"):
        run.start("train", "fails", "--model.lmaxlist=[3]")
    assert not distutils.initialized()
    run.start("train", "works")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ValueError, "--mode is missing"),
        (["--mode", "predict"], ValueError, "--mode predict needs a trained model"),
        (["--mode", "train", "--checkpoint", "no.pt"], FileNotFoundError, "--checkpoint no.pt"),
        (["--mode", "train", "--model.name=ev3"], ValueError, "no model is called 'ev3'; perhaps 'ev2'"),
        (["--mode", "train", "--dataset.train.src=nowhere"], FileNotFoundError, "nowhere does not exist"),
        (
            ["--mode", "train", "--logger=tensorbord"],
            ValueError,
            "no logger is called 'tensorbord'; perhaps 'tensorboard'",
        ),
        (["--mode", "train", "--logger.project=ev2"], ValueError, "the logger must be given by its name, got None"),
        (["--mode", "train", "--trainer=opc"], ValueError, "no trainer is called 'opc'; perhaps 'ocp'"),
        (["--mode", "train", "--model.name=no_such_package.Model"], ImportError, "no_such_package"),
        (["--mode", "train", "--model.name=ev2_plugin.Model"], ImportError, "has no class 'Model'"),
    ],
)
def test_a_wrong_run_is_refused_before_it_starts(
    arguments: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path, "flat-lmdb")
    with pytest.raises(error, match=message):
        main(["--config-yml", str(run.config_yml), "--run-dir", str(tmp_path), "--cpu", *arguments])
    assert not (tmp_path / "checkpoints").exists()


def test_without_a_gpu_the_cpu_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = make_run(tmp_path, "flat-lmdb")
    main(["--mode", "train", "--config-yml", str(run.config_yml), "--run-dir", str(tmp_path)])
    assert "no CUDA device here: running on the CPU" in caplog.text


def test_no_ranks_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--config-yml", "any.yml", "--num-gpus", "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_only_needed_modules_of_the_host_are_imported() -> None:
    imports_done = registry.get("imports_setup", no_warning=True)
    with only_needed_imports({"model": {"name": "ev2"}}):
        assert registry.get("imports_setup")
    assert bool(registry.get("imports_setup", no_warning=True)) == bool(imports_done)
    for kind, name in SHORT_NAMES:
        assert getattr(registry, f"get_{kind}_class")(name).__module__.startswith("ev2_plugin.")
    assert "fairchem.core.models.dimenet_plus_plus" not in sys.modules


@pytest.mark.parametrize("name", ["schnet", "escn", "equiformer_v2"])
def test_another_model_of_the_host_is_imported_on_demand(name: str) -> None:
    import_class("model", name)
    assert registry.get_model_class(name).__module__.startswith("fairchem.core.models.")


def test_missing_requirement_of_another_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_sparse", None)
    with pytest.raises(ImportError, match=r"'gemnet_oc'.*torch_sparse.*ev2-plugin\[host\]"):
        import_class("model", "gemnet_oc")


def test_the_hosts_registry_shows_why_a_class_of_ours_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a plain `fairchem` run does with `model: {name: ev2_plugin.Needy}`.
    (tmp_path / "needs_something.py").write_text("import something_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ev2_plugin._MODULE_OF, "Needy", "needs_something")
    with pytest.raises(ImportError, match="something_that_is_not_installed"):
        registry.get_model_class("ev2_plugin.Needy")


def test_every_class_of_a_config_is_looked_up(tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    torch.save({"config": {"model": {"name": "hydra", "backbone": {"model": "old_backbone"}}}}, start)
    model = {**tiny_s2ef.HYDRA_MODEL, "finetune_config": {"starting_checkpoint": str(start)}}
    config = tiny_s2ef.config({"format": "ase_db", "src": "x"}, model, "equiformerv2_forces")
    assert set(named_classes(config)) == {
        ("trainer", "equiformerv2_forces"),
        ("model", "hydra"),
        ("model", "ev2_backbone"),
        ("model", "ev2_energy_head"),
        ("model", "ev2_force_head"),
        ("model", "old_backbone"),
        ("logger", "tensorboard"),
        ("dataset", "ase_db"),
        ("loss", "mae"),
        ("loss", "l2mae"),
    }


def test_registering_twice_changes_nothing_and_a_taken_name_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register()
    register()
    models = registry.mapping["model_name_mapping"]
    assert models["ev2"] is ev2_plugin.EquiformerV2
    monkeypatch.setitem(models, "ev2", dict)
    with pytest.raises(ValueError, match=r"already has a model 'ev2': builtins\.dict"):
        register()
