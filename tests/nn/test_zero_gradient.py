import torch

from ev2_plugin.nn.zero_gradient import with_zero_gradient


def test_value_and_gradients() -> None:
    x, idle = torch.randn(3, requires_grad=True), [torch.randn(2, 2, requires_grad=True) for _ in range(2)]
    out = with_zero_gradient(x, *idle)
    assert torch.equal(out, x)
    (3 * out).sum().backward()
    assert x.grad.tolist() == [3, 3, 3]
    assert all((parameter.grad == 0).all() and parameter.grad.shape == (2, 2) for parameter in idle)


def test_parameters_that_are_frozen() -> None:
    x, frozen = torch.randn(3, requires_grad=True), torch.randn(2)
    with_zero_gradient(x, frozen).sum().backward()
    assert frozen.grad is None
