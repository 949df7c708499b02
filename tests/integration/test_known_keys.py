"""The table of keys that somebody reads, against the sources and the shipped configs."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fairchem.core
import pytest

import ev2_plugin
from ev2_plugin.integration.check.keys import key_problems
from ev2_plugin.integration.known_keys import ANY, Tree, known_keys
from ev2_plugin.integration.run_config import load_config
from helpers.run_files import CONFIGS, RUN_FILES
from helpers.tiny_s2ef import FLAT_MODEL, HYDRA_MODEL, config

DOCUMENTED_ONLY = {"shape", "irrep_dim"}
SHIPPED = {**RUN_FILES, "demo/s2ef": CONFIGS / "demo" / "s2ef.yml"}


def written(trainer: str = "ev2_plugin.Trainer", model: dict[str, Any] = FLAT_MODEL) -> dict[str, Any]:
    return copy.deepcopy(config({"format": "lmdb", "src": "data"}, model, trainer))


def problems(content: Mapping[str, Any]) -> list[str]:
    return [str(problem) for problem in key_problems(content)]


def set_key(content: dict[str, Any], dotted: str, value: object = 1) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    content[key] = value


def leaves(tree: Tree) -> Iterator[str]:
    for key, below in tree.items():
        if key != ANY:
            yield key
        yield from leaves(below)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_hold_no_key_that_nobody_reads(name: str) -> None:
    content, _ = load_config(SHIPPED[name])
    assert problems(content) == []


@pytest.mark.parametrize("model", [FLAT_MODEL, HYDRA_MODEL], ids=["flat", "hydra"])
@pytest.mark.parametrize("trainer", ["ocp", "equiformerv2_forces", "ev2_plugin.Trainer", "ev2"])
def test_configs_that_run_pass(trainer: str, model: dict[str, Any]) -> None:
    assert problems(written(trainer, model)) == []


@pytest.mark.parametrize("trainer", ["ocp", "equiformerv2_energy", "ev2"])
@pytest.mark.parametrize("format_name", ["lmdb", "oc22_lmdb", "ase_read", "ase_read_multi", "ase_db"])
def test_every_key_of_the_table_stands_in_some_source(trainer: str, format_name: str) -> None:
    (host,) = fairchem.core.__path__
    sources = "\n".join(
        path.read_text()
        for folder in ("common", "datasets", "models", "modules", "tasks", "trainers", "preprocessing")
        for path in sorted((Path(host) / folder).rglob("*.py"))
        if not path.name.startswith("test_")
    )
    sources += (Path(host) / "_cli.py").read_text()
    package = Path(ev2_plugin.__file__).parent
    sources += "\n".join(
        path.read_text() for path in sorted(package.rglob("*.py")) if path.name not in ("known_keys.py", "keys.py")
    )
    content = written(trainer)
    content["dataset"]["train"]["format"] = format_name
    content["optim"]["optimizer_params"] = content["optim"].pop("scheduler", None) and {}
    tree = known_keys(content)
    tree = {**tree, "optim": {**tree["optim"], "optimizer_params": {}}}  # torch's
    for key in set(leaves(tree)) - DOCUMENTED_ONLY:
        # as a string, an argument, a field or a flag
        spelt = (f'"{key}"', f"'{key}'", f"{key}:", f"{key} =", f"{key}=", f"--{key.replace('_', '-')}", f"def {key}(")
        if key.endswith("_split_settings"):
            spelt = ('f"{split_name}_split_settings"',)
        assert any(form in sources for form in spelt), key


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("optim.lr", r"optim.lr (did you mean"),
        ("optim.max_epoch", "optim.max_epoch (did you mean 'max_epochs'?)"),
        ("optim.scheduler_params.warmup_epoch", "scheduler_params.warmup_epoch (did you mean 'warmup_epochs'?)"),
        ("optim.optimizer_params.weight_deca", "optimizer_params.weight_deca (did you mean 'weight_decay'?)"),
        ("optim.force_coefficient", "optim.force_coefficient (give it as coefficient of forces under loss_functions)"),
        ("task.relaxation_step", "task.relaxation_step (did you mean 'relaxation_steps'?)"),
        ("task.noisy_nodes.sigma", "task.noisy_nodes.sigma (known there: corrupt_ratio, interpolate"),
        ("outputs.forces.train_on_free_atom", "outputs.forces.train_on_free_atom (did you mean"),
        ("evaluation_metrics.primary_metrics", "evaluation_metrics.primary_metrics (did you mean 'primary_metric'?)"),
        ("dataset.train.key_maping", "dataset.train.key_maping (did you mean 'key_mapping'?)"),
        ("dataset.train.lin_ref", "dataset.train.lin_ref (give element references under"),
        ("dataset.train.pattern", "dataset.train.pattern (known there:"),
        ("dataset.training.src", "dataset.training (did you mean 'train'?)"),
        ("dataset.val.transforms.normalizer", "dataset.val.transforms.normalizer (the trainer takes the one of"),
        ("dataset.train.transforms.normaliser", "transforms.normaliser (did you mean 'normalizer'?)"),
        ("dataset.train.transforms.normalizer.energy.std", "normalizer.energy.std (did you mean"),
        ("model.lmaxlist", "model.lmaxlist (did you mean 'lmax_list'?)"),
        ("model.num_distance_basis", "model.num_distance_basis (it has no effect, here or in the official code"),
        ("models.lmax", "models (did you mean 'model'?)"),
    ],
)
def test_a_key_that_nobody_reads(key: str, message: str) -> None:
    content = written()
    set_key(content, key)
    (found,) = problems(content)
    assert message in found


def test_losses() -> None:
    content = written()
    content["loss_functions"][0]["energy"]["coeficient"] = 1
    assert problems(content) == ["loss_functions.energy.coeficient (did you mean 'coefficient'?)"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("model.backbone.lmx_list", "model.backbone.lmx_list (did you mean 'lmax_list'?)"),
        ("model.heads.energy.reduction", "model.heads.energy.reduction (did you mean 'reduce'?)"),
        ("model.backbones", "model.backbones (did you mean 'backbone'?)"),
    ],
)
def test_hydra_models(key: str, message: str) -> None:
    content = written(model=HYDRA_MODEL)
    set_key(content, key)
    assert problems(content) == [message]


def test_only_official_keys_without_effect_are_inert() -> None:
    content = written()
    set_key(content, "model.ffn_activation")
    set_key(content, "optim.lr")
    assert {problem.key: problem.inert for problem in key_problems(content)} == {
        "model.ffn_activation": True,
        "optim.lr": False,
    }


@pytest.mark.parametrize("key", ["optim.global_batch_size", "optim.precision", "task.noisy_nodes"])
def test_keys_of_our_trainer_do_nothing_in_the_hosts(key: str) -> None:
    content = written("equiformerv2_forces")
    set_key(content, key)
    (found,) = problems(content)
    assert found == f"{key} (only trainer: ev2_plugin.Trainer reads it)"


def test_the_hosts_plain_trainer_looks_for_the_schedule_in_optim_alone() -> None:
    content = written("ocp")
    content["optim"]["scheduler_params"] = {"patience": 3}
    (found,) = problems(content)
    assert found.startswith("optim.scheduler_params (")
    assert problems({**content, "trainer": "ev2"}) == []


def test_what_others_define_is_left_to_them() -> None:
    content = written(model={"name": "painn", "whatever": 1})
    content["dataset"]["train"] = {"format": "my_package.MyDataset", "src": "data", "whatever": 1}
    content["dataset"]["val"]["format"] = "lmdb"
    content["optim"].update(optimizer="Mine", optimizer_params={"whatever": 1})
    assert problems(content) == []


def test_old_configs_are_left_to_the_host() -> None:
    assert problems({"trainer": "forces", "task": {"metric": "mae"}, "optim": {"loss_energy": "mae"}}) == []
