"""Configs from files, flags and overrides: as the host builds them, and found where the host does not look."""

import logging
from pathlib import Path

import pytest
import yaml
from fairchem.core.common.flags import Flags
from fairchem.core.common.utils import build_config as host_build_config

from ev2_plugin.integration import run_config
from ev2_plugin.integration.run_config import build_run_config, expand_sweep, load_config


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for the plugin's configs; the current folder is another, empty one."""
    folder = tmp_path / "packaged"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(run_config, "config_dir", lambda: folder)
    write(folder / "oc20/base.yml", {"includes": ["optim/adamw.yml"], "trainer": "ocp", "model": {"lmax": 4}})
    write(folder / "optim/adamw.yml", {"optim": {"lr_initial": 1.0e-3, "num_workers": 2}})
    return folder


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def build(*arguments: str) -> dict:
    return build_run_config(*Flags().get_parser().parse_known_args(arguments))


FLAG_SETS = [
    [],
    ["--mode", "train", "--identifier", "a", "--debug", "--print-every", "3", "--seed", "7", "--cpu"],
    ["--amp", "--checkpoint", "c.pt", "--num-gpus", "4", "--num-nodes", "2", "--gp-gpus", "2"],
    ["--submit", "--summit", "--run-dir", "runs", "--optim.lr_initial=1e-4", "--model.name=painn", "--a.b=x"],
]


@pytest.mark.parametrize("flags", FLAG_SETS)
def test_config_equals_that_of_the_host(flags: list[str], packaged: Path) -> None:
    base = write(packaged.parent / "elsewhere/sub/base.yml", {"optim": {"lr_initial": 1, "b": [1]}, "k": "v"})
    main = write(base.parent / "main.yml", {"includes": ["base.yml"], "optim": {"lr_initial": 2}})
    arguments = ["--config-yml", str(main), "--timestamp-id", "t", *flags]
    expected = host_build_config(*Flags().get_parser().parse_known_args(arguments))
    assert build(*arguments) == expected


def test_packaged_config_and_its_nested_includes_are_found_from_any_folder(packaged: Path) -> None:
    config = build("--config-yml", "oc20/base.yml")
    assert config["model"] == {"lmax": 4}
    assert config["optim"]["num_workers"] == 2


def test_a_users_config_includes_a_packaged_one(packaged: Path) -> None:
    write(Path("mine.yml"), {"includes": ["oc20/base.yml"], "model": {"lmax": 6}})
    config = build("--config-yml", "mine.yml")
    assert config["model"] == {"lmax": 6}
    assert config["trainer"] == "ocp"
    assert config["optim"]["lr_initial"] == 1.0e-3


def test_replaced_keys_of_includes_are_told(packaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(Path("mine.yml"), {"includes": ["oc20/base.yml"], "model": {"lmax": 6}})
    caplog.set_level(logging.INFO)
    build("--config-yml", "mine.yml")
    assert "model.lmax" in caplog.text


def test_shipped_configs_travel_with_the_package() -> None:
    assert run_config.config_dir().is_dir()


def test_each_run_without_timestamp_gets_its_own(packaged: Path) -> None:
    first, second = (build("--config-yml", "oc20/base.yml", "--identifier", "x") for _ in range(2))
    assert first["timestamp_id"] != second["timestamp_id"]
    assert "-x-" in first["timestamp_id"]
    assert build("--config-yml", "oc20/base.yml", "--timestamp-id", "mine")["timestamp_id"] == "mine"


def test_sweep_is_the_product_of_its_values(packaged: Path) -> None:
    sweep = write(Path("sweep.yml"), {"optim": {"lr_initial": [1, 2]}, "model": {"lmax": [4, 6]}})
    config = build("--config-yml", "oc20/base.yml", "--identifier", "s")
    runs = expand_sweep(config, sweep)
    values = {(run["optim"]["lr_initial"], run["model"]["lmax"]) for run in runs}
    assert values == {(1, 4), (1, 6), (2, 4), (2, 6)}
    assert [run["identifier"] for run in runs] == ["s_run0", "s_run1", "s_run2", "s_run3"]
    assert len({run["timestamp_id"] for run in runs}) == 4
    assert config["model"] == {"lmax": 4}


def test_sweep_over_something_else_than_a_list_is_an_error(packaged: Path) -> None:
    sweep = write(Path("sweep.yml"), {"model": {"lmax": 6}})
    with pytest.raises(ValueError, match=r"model\.lmax needs a list of values, not 6"):
        expand_sweep(build("--config-yml", "oc20/base.yml"), sweep)


def test_missing_config_names_where_it_was_looked_for(packaged: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"'no\.yml'.*elsewhere.*{packaged}"):
        build("--config-yml", "no.yml")


def test_missing_include_names_the_file_that_wants_it(packaged: Path) -> None:
    mine = write(Path("mine.yml"), {"includes": ["no.yml"]})
    with pytest.raises(FileNotFoundError, match=r"mine\.yml: includes 'no\.yml'"):
        load_config(mine)


def test_configs_that_include_one_another_are_an_error(packaged: Path) -> None:
    write(Path("a.yml"), {"includes": ["b.yml"]})
    write(Path("b.yml"), {"includes": ["a.yml"]})
    with pytest.raises(ValueError, match=r"include one another: a\.yml -> b\.yml -> a\.yml"):
        load_config(Path("a.yml"))


def test_one_key_in_two_includes_is_an_error(packaged: Path) -> None:
    write(Path("a.yml"), {"optim": {"lr": 1}})
    write(Path("b.yml"), {"optim": {"lr": 1}})
    mine = write(Path("mine.yml"), {"includes": ["a.yml", "b.yml"]})
    with pytest.raises(ValueError, match=r"mine\.yml: more than one of its includes sets optim\.lr"):
        load_config(mine)


@pytest.mark.parametrize("content", [None, [1, 2], "text"])
def test_a_config_that_is_no_mapping_is_an_error(content: object, packaged: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.yml: a config is a mapping"):
        load_config(write(Path("mine.yml"), content))


def test_includes_that_are_no_list_are_an_error(packaged: Path) -> None:
    with pytest.raises(ValueError, match=r"includes must be a list of files, not 'base\.yml'"):
        load_config(write(Path("mine.yml"), {"includes": "base.yml"}))


@pytest.mark.parametrize("override", ["--optim.lr", "optim.lr=1", "stray"])
def test_an_override_of_another_form_is_an_error(override: str, packaged: Path) -> None:
    with pytest.raises(ValueError, match=override):
        build("--config-yml", "oc20/base.yml", override)


def test_an_override_may_contain_an_equals_sign(packaged: Path) -> None:
    assert build("--config-yml", "oc20/base.yml", "--note=a=b")["note"] == "a=b"
