import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from shared.grad_reverse import GradientReversal, grad_reverse


def test_forward_is_the_identity_and_gradient_is_minus_lambda_times_the_plain_one():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 4, dtype=torch.float64)
    plain = torch.autograd.grad((weights * x.sin()).sum(), x)[0]
    for coefficient in (0.0, 0.3, 2.0):
        y = grad_reverse(x, coefficient)
        assert torch.equal(y, x)
        (reversed_,) = torch.autograd.grad((weights * y.sin()).sum(), x)
        torch.testing.assert_close(reversed_, -coefficient * plain, rtol=1e-7, atol=0)


def test_empty_input():
    x = torch.zeros(0, 3, requires_grad=True)
    grad_reverse(x, 0.5).sum().backward()
    assert x.grad.shape == (0, 3)


def test_half_precision_gradient_keeps_its_type_under_autocast():
    x = torch.randn(4, 8, requires_grad=True)
    layer = torch.nn.Linear(8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = layer(x)
        hidden.retain_grad()
        grad_reverse(hidden, torch.tensor(0.1)).sum().backward()
    assert hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(hidden.grad, torch.full_like(hidden, -0.1))


def test_vmap_and_functional_gradient():
    x = torch.randn(5, 3)

    def loss(row):
        return (grad_reverse(row, 0.5) ** 2).sum()

    gradients = torch.vmap(torch.func.grad(loss))(x)
    torch.testing.assert_close(gradients, -0.5 * 2 * x)


def test_compiles_once_whatever_the_coefficient():
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(backend=counter, fullgraph=True)
    def loss(x, coefficient):
        return (grad_reverse(x, coefficient) ** 2).sum()

    for value in (0.1, 0.7, 3.0):
        x = torch.ones(3, requires_grad=True)
        loss(x, torch.tensor(value)).backward()
        torch.testing.assert_close(x.grad, torch.full((3,), -2 * value))
    assert counter.frame_count == 1


def test_changing_the_coefficient_in_place_before_backward_is_an_error_not_a_wrong_gradient():
    x = torch.ones(2, requires_grad=True)
    coefficient = torch.tensor(1.0)
    y = grad_reverse(x, coefficient).sum()
    coefficient.fill_(5.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_module_saves_its_coefficient_and_keeps_recorded_graphs():
    module = GradientReversal(0.25)
    x = torch.ones(2, requires_grad=True)
    y = module(x).sum()
    module.set_coefficient(4.0)
    y.backward()
    torch.testing.assert_close(x.grad, torch.full((2,), -0.25))
    restored = GradientReversal()
    restored.load_state_dict(module.state_dict())
    assert restored.coefficient.item() == 4.0
    assert restored.coefficient.dim() == 0
