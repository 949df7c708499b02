import pytest

from ev2_plugin.data.training_log import LearningCurve, parse_metrics, read_curves

TRAINING = "energy_mae: 1.32e+00, forces_mae: 2.94e-01, loss: 2.40e+01, lr: 1.24e-03, epoch: 5.00e-01, step: 2.00e+01"
VALIDATION = "energy_mae: 0.8310, forces_mae: 0.2175, loss: 18.5901, epoch: 1.0000"


def test_a_training_line_gives_its_numbers():
    assert parse_metrics(TRAINING) == {
        "energy_mae": 1.32,
        "forces_mae": 0.294,
        "loss": 24.0,
        "lr": 0.00124,
        "epoch": 0.5,
        "step": 20.0,
    }


@pytest.mark.parametrize(
    "message",
    ["Loading dataset: lmdb", "optim:\n  max_epochs: 6\n", "Normalization values: mean=-2.8, rmsd=1.6.", ""],
)
def test_other_messages_are_passed_over(message):
    assert parse_metrics(message) is None


def test_a_run_that_diverged_is_still_read():
    assert parse_metrics("loss: nan, epoch: 1.0000")["loss"] != parse_metrics("loss: inf, epoch: 1.0000")["loss"]


def test_training_and_validation_are_told_apart():
    training, validation = read_curves([TRAINING, "Evaluating on val.", VALIDATION, TRAINING])
    assert training.epochs == [0.5, 0.5]
    assert training.metrics["loss"] == [24.0, 24.0]
    assert validation.epochs == [1.0]
    assert validation.metrics == {"energy_mae": [0.831], "forces_mae": [0.2175], "loss": [18.5901]}


def test_metrics_that_change_on_the_way_are_refused():
    curve = LearningCurve()
    curve.append({"loss": 1.0, "epoch": 1.0})
    with pytest.raises(ValueError, match="metrics changed"):
        curve.append({"loss": 1.0, "extra": 2.0, "epoch": 2.0})
