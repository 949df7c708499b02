"""Runs of more than one process: ranks of torch elastic, submitit jobs, and what they show when they fail."""

import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch
import yaml
from fairchem.core.common import distutils
from fairchem.core.common.flags import Flags
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.launcher.api import LaunchConfig

from ev2_plugin.integration import launcher
from ev2_plugin.integration.run_config import build_run_config
from ev2_plugin.integration.runner import Runner
from helpers import tiny_s2ef

pytestmark = pytest.mark.cluster

MINUTES = 60.0


@pytest.fixture(autouse=True)
def one_thread_per_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep workers from fighting over the cores, and give the environment back as it was."""
    before = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags of a training run with the plugin's short names, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    dataset = tiny_s2ef.write_dataset("lmdb", tmp_path / "data")
    tiny_s2ef.write_config(Path("run.yml"), tiny_s2ef.config(dataset, tiny_s2ef.HYDRA_MODEL, "ocp"))
    return ["--mode", "train", "--config-yml", "run.yml", "--cpu"]


def wait_for(condition: Callable[[], bool], what: str, timeout: float = 6 * MINUTES) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:.0f} s for {what}")
        time.sleep(0.2)


def logs() -> str:
    return "".join(path.read_text() for path in sorted(Path("logs").glob("*/*_log.*")))


def steps(pattern: str = "checkpoints/*/checkpoint.pt") -> int:
    (path,) = Path().glob(pattern)
    return torch.load(path, map_location="cpu", weights_only=False)["step"]


def test_two_ranks_train_together(arguments: list[str]) -> None:
    launcher.main([*arguments, "--num-gpus", "2", "--optim.num_workers=2"])
    assert steps() == tiny_s2ef.NUM_STRUCTURES // (2 * 2)  # two structures per rank and step


def own_trainer(**optim: Any) -> None:
    """Rewrite run.yml for the plugin's trainer: the four slabs make one step, from however many processes."""
    content = yaml.safe_load(Path("run.yml").read_text())
    content["trainer"] = "ev2"
    for key in ("scheduler", "mode", "factor", "patience", "load_balancing"):
        del content["optim"][key]
    content["optim"] |= {"global_batch_size": 4, "max_epochs": 2, "scheduler": "Null", **optim}
    tiny_s2ef.write_config(Path("run.yml"), content)


def test_two_ranks_that_accumulate_equal_one_process(arguments: list[str]) -> None:
    own_trainer(optimizer="SGD", optimizer_params={}, lr_initial=1e-4)  # AdamW would enlarge the last bit
    launcher.main([*arguments, "--num-gpus", "2", "--optim.batch_size=1", "--timestamp-id", "two"])
    launcher.main([*arguments, "--optim.batch_size=4", "--timestamp-id", "one"])
    one, two = (torch.load(f"checkpoints/{run}/checkpoint.pt", weights_only=False) for run in ("one", "two"))
    assert (one["step"], two["step"]) == (2, 4)  # batches
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=0, atol=1e-6)
    for mine, theirs in zip(one["ema"]["shadow_params"], two["ema"]["shadow_params"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def spoil_sample_1(path: Path) -> None:
    environment = lmdb.open(str(path), subdir=False)
    with environment.begin(write=True) as transaction:
        data = pickle.loads(transaction.get(b"1"))
        data.energy = float("nan")
        transaction.put(b"1", pickle.dumps(data))
    environment.close()


def test_ranks_end_a_run_together(arguments: list[str], tmp_path: Path) -> None:
    own_trainer(global_batch_size=2, batch_size=1, max_non_finite_steps=1)
    spoil_sample_1(tmp_path / "data" / "data.0000.lmdb")
    with pytest.raises(ChildFailedError) as error:
        launcher.main([*arguments, "--num-gpus", "2"])
    _, failure = error.value.get_first_failure()  # whichever rank was faster
    message = failure.message["message"]
    assert "in the loss, of finite predictions: look at the labels of these samples" in message
    assert message.endswith("Samples of the last step: 1_0")


def test_ranks_skip_a_step_together(arguments: list[str], tmp_path: Path) -> None:
    own_trainer(global_batch_size=2, batch_size=1, max_epochs=1, **tiny_s2ef.COSINE)
    spoil_sample_1(tmp_path / "data" / "data.0000.lmdb")
    launcher.main([*arguments, "--num-gpus", "2", "--timestamp-id", "two"])
    checkpoint = torch.load("checkpoints/two/checkpoint.pt", weights_only=False)
    assert checkpoint["step"] == 2
    assert checkpoint["scheduler"]["last_epoch"] == 1  # the other step was taken
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_two_runs_on_one_machine_do_not_share_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    launches: list[LaunchConfig] = []
    monkeypatch.setattr(
        launcher, "elastic_launch", lambda launch, function: launches.append(launch) or (lambda config: None)
    )
    launcher.run_ranks({"optim": {"num_workers": 0}}, 2)
    (launch,) = launches
    first, second = (
        create_backend(RendezvousParameters("c10d", launch.rdzv_endpoint, run, 1, 1)) for run in ("a", "b")
    )
    assert first[1].port != second[1].port


def test_a_rank_that_cannot_import_shows_the_real_error(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "modules" / "fails_in_workers.py"
    module.parent.mkdir()
    module.write_text(
        "import os\n"
        "if 'TORCHELASTIC_RUN_ID' in os.environ:\n    import missing_in_workers\n"
        "from ev2_plugin import EquiformerV2\n"
    )
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.setenv("PYTHONPATH", str(module.parent), prepend=os.pathsep)
    override = "--model.backbone.model=fails_in_workers.EquiformerV2"
    config = build_run_config(*Flags().get_parser().parse_known_args([*arguments, override]))
    with pytest.raises(ChildFailedError, match="No module named 'missing_in_workers'"):
        launcher.run_ranks(config, 1)


def test_submitted_run_of_two_ranks_trains_without_a_cluster(arguments: list[str]) -> None:
    launcher.main([*arguments, "--submit", "--cluster", "local", "--num-gpus", "2", "--identifier", "job"])
    wait_for(lambda: len(list(Path("logs").glob("*/*_result.pkl"))) == 2, "the job's results")
    outcomes = [pickle.loads(path.read_bytes())[0] for path in Path("logs").glob("*/*_result.pkl")]
    assert outcomes == ["success", "success"], logs()
    assert steps() == tiny_s2ef.NUM_STRUCTURES // (2 * 2)


def test_preempted_run_goes_on_where_it_was(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = Flags().get_parser().parse_known_args(arguments)
    config = build_run_config(*parsed)
    distutils.setup_env_local()
    runner = Runner()
    runner(config)
    monkeypatch.setattr(runner, "submitted", True)

    requeued = runner.checkpoint(config)
    assert isinstance(requeued.function, Runner)
    assert requeued.function.submitted
    (resumed,) = requeued.args
    assert resumed["timestamp_id"] == config["timestamp_id"]
    assert Path(resumed["checkpoint"]).is_file()

    resumed["optim"]["max_epochs"] = 2
    requeued.function.submitted = False
    requeued.function(resumed)
    assert steps() == tiny_s2ef.NUM_STRUCTURES
