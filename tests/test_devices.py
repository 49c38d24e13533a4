"""The pretended GPU of `tests/devices.py` refuses what a real one refuses, and nothing else."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices import MixedDevicesError, pretended_gpu
from torch import nn


@pytest.fixture
def images():
    with pretended_gpu():
        yield torch.rand(2, 3, 4, 4).to("cuda")


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: x + torch.zeros(4),
        lambda x: torch.zeros(2, 3, 4, 4) * x,
        lambda x: torch.cat([x, torch.zeros(2, 3, 4, 4)]),
        lambda x: torch.stack([x.sum(), torch.tensor(0.0)]),
        lambda x: x[0, 0] @ torch.ones(4, 1),
        lambda x: torch.zeros(2, 3)[x[0, 0, 0] > 2],
        lambda x: F.conv2d(x, torch.zeros(1, 3, 1, 1)),
        lambda x: F.cross_entropy(x, torch.zeros(2, 4, 4, dtype=torch.long)),
        lambda x: x.where(torch.ones(4, 4) > 0, 0),
        lambda x: x.index_put_((torch.tensor([0]),), torch.ones(3, 4, 4)),
        lambda x: nn.Conv2d(3, 1, 1)(x),
    ],
)
def test_tensors_that_were_made_without_saying_where_do_not_mix(images, mix):
    with pytest.raises(MixedDevicesError, match="mixes tensors of the GPU with one of the CPU"):
        mix(images)


@pytest.mark.parametrize("leave", [np.asarray, lambda x: x.numpy()])
def test_numpy_does_not_read_a_gpu(images, leave):
    with pytest.raises((RuntimeError, TypeError)):
        leave(images)


def test_a_backward_pass_is_watched_too(images):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.ones(4)

    with pytest.raises(MixedDevicesError):
        Wrong.apply(images.requires_grad_()).sum().backward()


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x + torch.zeros(4, device=x.device),
        lambda x: x * torch.tensor(2.0),  # a single number
        lambda x: x[torch.tensor([0, 1])],  # indices
        lambda x: x.copy_(torch.zeros(4)),
        lambda x: x.new_zeros(3) + torch.tensor([1.0, 2, 3], device="cuda"),
        lambda x: torch.zeros_like(x).to(x),
        lambda x: torch.zeros(4).to(x.device) + torch.zeros(4).cuda(),
        lambda x: F.one_hot(x.long().flatten()),
        lambda x: x.sum() + torch.arange(3, device=x.device, dtype=x.dtype),
        lambda x: torch.from_numpy(np.ones(4, np.float32)).to(x) + x,
    ],
)
def test_what_a_gpu_allows_stays_on_it(images, use):
    assert use(images).device == torch.device("cuda", 0)


def test_results_come_back_by_being_asked_for(images):
    assert images.cpu().device == images.detach().to("cpu").device == torch.device("cpu")
    assert images.cpu().numpy().shape == (2, 3, 4, 4)
    assert images.sum().item() == pytest.approx(sum(images.flatten().tolist()))


def test_a_network_trains_as_on_the_cpu():
    def trained(device):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout(0.5))
        net, x = net.to(device), torch.rand(2, 3, 5, 5).to(device)
        optimizer = torch.optim.Adam(net.parameters(), 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
        return [tensor.tolist() for tensor in net.state_dict().values()]

    expected = trained("cpu")
    with pretended_gpu():
        assert trained("cuda") == expected
