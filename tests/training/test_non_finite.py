import torch
from torch import Tensor, nn

from ev2_plugin.training.non_finite import NOWHERE, SkippedSteps, first_non_finite_module


class Broken(nn.Module):
    """Finite forward, infinite gradient: sqrt at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 0).sqrt() + x


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.SiLU()), nn.Linear(4, 1))


def test_the_first_module_of_the_forward_pass_is_named() -> None:
    model = network()
    model[1][0].weight.data[2, 2] = torch.nan
    found = first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum())
    assert found == "in the forward pass, 1.0 (Linear)"


def test_the_first_module_of_the_backward_pass_is_named() -> None:
    model = network()
    model[1][1] = Broken()
    found = first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum())
    assert found == "in the backward pass, 1.1 (Broken)"


def test_without_the_backward_pass_there_are_no_gradients() -> None:
    model = network()
    model[1][1] = Broken()
    assert first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum(), backward=False) == NOWHERE
    assert all(parameter.grad is None for parameter in model.parameters())


def test_labels_are_blamed_where_predictions_are_finite() -> None:
    model = network()
    found = first_non_finite_module(model, lambda: (model(torch.ones(2, 3)) - torch.nan).sum())
    assert found.startswith("in the loss, of finite predictions")


def test_a_parameter_is_named_where_only_its_gradient_is_not_finite() -> None:
    model = network()
    found = first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum() + (model[0].bias * 0).sqrt().sum())
    assert found == "in the backward pass, gradient of 0.bias"


def test_a_step_that_is_finite_after_all() -> None:
    model = network()
    assert "nowhere" in first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum())


def test_no_hooks_stay() -> None:
    model = network()
    first_non_finite_module(model, lambda: model(torch.ones(2, 3)).sum())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_skipped_steps_count_in_a_row() -> None:
    steps = SkippedSteps(limit=2)
    assert [steps.skip(), steps.take(), steps.skip(), steps.skip()] == [False, None, False, True]
    assert steps.total == 3


def test_a_limit_of_one_allows_none() -> None:
    assert SkippedSteps(1).skip()
