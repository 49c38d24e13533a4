import pytest
import torch
from fvcore.common.config import CfgNode

from shared.precision import MixedPrecision


def mixed(precision, enabled=True):
    return MixedPrecision(
        CfgNode({"ENABLED": enabled, "PRECISION": precision}), torch.device("cpu")
    )


def one_weight(value=1.0):
    weight = torch.tensor([value], requires_grad=True)
    return weight, torch.optim.SGD([weight], lr=0.5)


@pytest.mark.parametrize(
    ("amp", "dtype"),
    [
        (mixed("fp16"), torch.float16),
        (mixed("bf16"), torch.bfloat16),
        (mixed("fp16", False), torch.float32),
    ],
)
def test_forward_passes_are_in_the_precision_and_steps_in_fp32(amp, dtype):
    weight, optimizer = one_weight()
    with amp.autocast():
        assert (torch.ones(1, 1) @ weight[:, None]).dtype == dtype
    amp.backward((weight * 3).sum())
    amp.step(optimizer)
    amp.update()
    assert weight.item() == 1 - 0.5 * 3


def test_only_fp16_scales_losses():
    for amp, scale in ((mixed("fp16"), 2**16), (mixed("bf16"), 1), (mixed("fp16", False), 1)):
        weight, _ = one_weight()
        amp.backward(weight.sum())
        assert weight.grad.item() == scale
        assert (amp.scaler.state_dict() == {}) == (scale == 1)


def test_a_step_that_overflows_is_left_out_and_halves_the_scale():
    amp, (weight, optimizer), (other, second) = mixed("fp16"), one_weight(), one_weight()
    amp.backward((weight * 1e35).sum())
    amp.backward(other.sum())
    for each in (optimizer, second):
        amp.step(each)
    amp.update()
    assert weight.item() == 1 and other.item() == 0.5
    assert amp.scaler.get_scale() == 2**15


def test_an_optimizer_without_gradients_is_left_alone():
    amp, (weight, optimizer), (other, second) = mixed("fp16"), one_weight(), one_weight()
    amp.step(optimizer)
    amp.update()
    amp.backward(other.sum())
    for each in (optimizer, second):
        amp.step(each)
    amp.update()
    assert weight.item() == 1 and other.item() == 0.5
