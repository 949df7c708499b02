"""Trainings submitted to SLURM, and disturbed there in every way that it knows, end as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ev2_plugin.integration.slurm import SubmissionError
from helpers.recording_trainer import FAULT, PACE
from helpers.slurm_cluster import SlurmCluster
from helpers.submitted_runs import STEPS, SubmittedRun, check_same_as, submit, wait_for, write_run

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("restored_process_state")]
TESTS = Path(__file__).parents[1]
DISTURBED_AT = 13  # between checkpoints


@pytest.fixture(scope="module", autouse=True)
def _environment(cluster: SlurmCluster) -> Iterator[None]:
    """What a user's shell has: the cluster's address, the modules that configs name, one thread per process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def undisturbed(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> SubmittedRun:
    """One task, nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_run(folder)
    (run,) = submit(cluster, folder)
    run.check_success()
    return run


@pytest.fixture
def run(cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SubmittedRun:
    """A run that has come to the middle."""
    write_run(tmp_path)
    monkeypatch.setenv(PACE, "0.15")
    (submitted,) = submit(cluster, tmp_path)
    submitted.wait_for_step(DISTURBED_AT)
    return submitted


def test_a_run_on_a_cluster_without_gpus_uses_the_cpu_and_gloo(undisturbed: SubmittedRun) -> None:
    """Nothing tells it so: no --cpu was given."""
    assert undisturbed.final()["step"] == STEPS
    assert "no CUDA device here: running on the CPU, ranks joined by gloo" in undisturbed.log()
    (script,) = (undisturbed.folder / "logs" / undisturbed.job).glob("*_submission.sh")
    assert "gpus" not in script.read_text()
    assert undisturbed.restarts == 0


def test_the_signal_of_the_scheduler_saves_and_queues_again(
    cluster: SlurmCluster, run: SubmittedRun, undisturbed: SubmittedRun
) -> None:
    cluster.run("scancel", "--signal=USR2", run.job)
    run.check_success()
    assert run.restarts == 1
    check_same_as(run, undisturbed)
    assert len(run.samples()) == STEPS  # nothing was done twice


def test_a_signal_while_the_run_starts_loses_nothing(
    cluster: SlurmCluster, tmp_path: Path, undisturbed: SubmittedRun
) -> None:
    """Before Python handles signals, and before there is anything to save."""
    write_run(tmp_path)
    (run,) = submit(cluster, tmp_path)
    for restart in (1, 2):
        wait_for(lambda: cluster.processes_of(run.job), lambda: "no process")
        if restart == 2:
            wait_for(lambda: "Loading pickle" in run.log(), run.log)
        cluster.run("scancel", "--signal=USR2", run.job)
        wait_for(lambda restart=restart: run.restarts == restart, run.log)
    run.check_success()
    check_same_as(run, undisturbed)


def test_a_requeued_job_goes_on_from_the_newest_checkpoint(
    cluster: SlurmCluster, run: SubmittedRun, undisturbed: SubmittedRun
) -> None:
    cluster.run("scontrol", "requeue", run.job)
    run.check_success()
    assert run.restarts == 1
    check_same_as(run, undisturbed)


def test_a_killed_job_step_is_queued_again_by_its_batch_script(
    cluster: SlurmCluster, run: SubmittedRun, undisturbed: SubmittedRun
) -> None:
    for process in cluster.processes_of(run.job):
        os.kill(process, signal.SIGKILL)
    run.check_success()
    assert "killed (status 137): queued again" in run.log()
    check_same_as(run, undisturbed)
    repeated = len(run.samples()) - STEPS
    assert 0 < repeated <= 5  # what came after the last checkpoint


def test_a_run_makes_way_for_a_more_urgent_job_and_goes_on_after_it(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: SubmittedRun
) -> None:
    """The scheduler itself decides: it sends SIGTERM, no other signal, and gives the run time to save."""
    write_run(tmp_path, slurm={"nodelist": "127.0.0.1", "partition": "cpu"})
    monkeypatch.setenv(PACE, "0.15")
    (run,) = submit(cluster, tmp_path, "--slurm-mem", "3")
    run.wait_for_step(DISTURBED_AT)
    urgent = cluster.run(
        *("sbatch", "--parsable", "--partition=urgent", "--nodelist=127.0.0.1", "--mem=3G"),
        *("--output=/dev/null", "--wrap=sleep 1"),
    )
    run.check_success()
    assert cluster.state(urgent) == "COMPLETED"
    assert run.restarts == 1
    check_same_as(run, undisturbed)
    assert len(run.samples()) == STEPS


@pytest.mark.parametrize(
    ("slurm", "arguments", "words"),
    [
        ({}, ["--slurm-partition", "gold"], "answers: Partition gold not found"),
        ({}, ["--slurm-partition", "gold", "--cpu"], "does not take the job: invalid partition specified: gold"),
        ({}, ["--slurm-mem", "999"], "does not take the job: Memory specification can not be satisfied"),
        ({"gpus_per_node": 1}, [], "does not take the job: Invalid generic resource"),
    ],
)
def test_what_the_cluster_refuses_is_an_error_in_its_words(
    slurm: dict[str, object], arguments: list[str], words: str, cluster: SlurmCluster, tmp_path: Path
) -> None:
    write_run(tmp_path, slurm=slurm)
    with pytest.raises(SubmissionError, match=f"^SLURM {words}"):
        submit(cluster, tmp_path, *arguments)


def test_an_error_of_the_run_does_not_queue_it_again(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path)
    monkeypatch.setenv(FAULT, "7")
    (run,) = submit(cluster, tmp_path, "--num-gpus", "2")
    assert run.wait_for_end() == "FAILED"
    assert run.restarts == 0
    assert "RuntimeError: a fault of the test" in run.log()


def test_a_cancelled_run_stays_cancelled(cluster: SlurmCluster, run: SubmittedRun) -> None:
    cluster.run("scancel", run.job)
    assert run.wait_for_end() == "CANCELLED"
    wait_for(lambda: not cluster.processes_of(run.job), run.log)
    time.sleep(3)
    assert cluster.state(run.job) == "CANCELLED"


@pytest.fixture(scope="module")
def side_by_side(cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> list[SubmittedRun]:
    """Two runs of two tasks each, at the same time on one node."""
    runs = []
    for name in ("first", "second"):
        folder = tmp_path_factory.mktemp(name)
        write_run(folder, slurm={"nodelist": "127.0.0.1"})
        runs += submit(cluster, folder, "--num-gpus", "2", "--seed", "3")
    return runs


def test_two_jobs_on_one_node_do_not_meet(side_by_side: list[SubmittedRun], cluster: SlurmCluster) -> None:
    first, second = side_by_side
    for run in side_by_side:
        run.check_success()
        assert cluster.job(run.job)["NodeList"] == "127.0.0.1"
    check_same_as(first, second, ranks=2)


def test_a_killed_rank_and_two_nodes(
    cluster: SlurmCluster, tmp_path: Path, side_by_side: list[SubmittedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks on two nodes: the same numbers as on one; one is killed, the other ends, both go on."""
    write_run(tmp_path)
    monkeypatch.setenv(PACE, "0.15")
    (run,) = submit(cluster, tmp_path, "--num-nodes", "2", "--seed", "3")
    run.wait_for_step(DISTURBED_AT - 4)
    processes = cluster.processes_of(run.job)
    assert len(processes) == 2
    os.kill(max(processes), signal.SIGKILL)
    run.check_success()
    assert run.restarts == 1
    side_by_side[0].check_success()
    check_same_as(run, side_by_side[0], ranks=2)


def test_a_sweep_is_an_array_of_runs_of_their_own(cluster: SlurmCluster, tmp_path: Path) -> None:
    write_run(tmp_path, max_epochs=2)
    (tmp_path / "sweep.yml").write_text("optim:\n  lr_initial: [0.001, 0.0001]\n")
    runs = submit(cluster, tmp_path, "--identifier", "lr", "--sweep-yml", str(tmp_path / "sweep.yml"))
    array = {run.job.split("_")[0] for run in runs}
    assert len(array) == 1
    assert [run.job.split("_")[1] for run in runs] == ["0", "1"]
    for run, rate in zip(runs, (0.001, 0.0001), strict=True):
        run.check_success()
        assert run.final()["config"]["optim"]["lr_initial"] == rate
        assert run.final()["step"] == 8
    assert [run.name.split("-lr_run")[1][0] for run in runs] == ["0", "1"]
    assert len(list(tmp_path.glob("checkpoints/*"))) == 2
