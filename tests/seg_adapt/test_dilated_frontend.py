import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import network
from torch import nn

from seg_adapt.models.dilated_frontend import MARGIN, ChunkedConv2d, ReflectionMargin
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.weights import load_weights
from seg_adapt.options import FrontendOptions
from shared.errors import UserError


def frontend(padding: str = "padded", **options):
    torch.manual_seed(0)
    options = {"width": 1 / 32, "frontend": FrontendOptions(padding)} | options
    return network("vgg16_frontend", **options)


def noise(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def test_layers_are_those_of_the_paper():
    with torch.device("meta"):
        segmentor = network("vgg16_frontend", 19)
    convs = [m for m in segmentor.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs[-6:]] == [512, 512, 512, 4096, 4096, 19]
    assert [c.kernel_size[0] for c in convs] == [3] * 13 + [7, 1, 1]
    assert [c.dilation[0] for c in convs] == [1] * 10 + [2] * 3 + [4, 1, 1]
    assert sum(isinstance(m, nn.MaxPool2d) for m in segmentor.modules()) == 3
    assert [m.p for m in segmentor.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]
    assert list(segmentor.stages)[-3:] == ["fc6", "fc7", "head"]
    assert segmentor.channels_at("fc7") == 4096
    assert frontend().stages["head"].weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("padding", ["padded", "reflect"])
@pytest.mark.parametrize("size", [(512, 1024), (321, 321), (720, 1280)])
def test_output_sizes(padding, size):
    with torch.device("meta"):
        segmentor = network("vgg16_frontend", 19, frontend=FrontendOptions(padding))
        logits = segmentor(torch.empty(1, 3, *size, dtype=torch.uint8))
    assert logits.shape == (1, 19, size[0] // 8, size[1] // 8)


@pytest.mark.parametrize(("height", "width"), [(1, 5), (2, 3), (64, 128), (200, 187)])
def test_reflection_is_opencvs(height, width):
    image = noise(height, width)
    padded = ReflectionMargin(MARGIN)(image.float())[0].permute(1, 2, 0).numpy()
    expected = cv2.copyMakeBorder(
        image[0].permute(1, 2, 0).numpy(), *[MARGIN] * 4, cv2.BORDER_REFLECT_101
    )
    np.testing.assert_array_equal(padded, expected)


def test_both_modes_agree_where_no_border_is_seen():
    padded, reflected = frontend().double().eval(), frontend("reflect").double().eval()
    assert all(
        torch.equal(a, b) for a, b in zip(padded.parameters(), reflected.parameters(), strict=True)
    )
    image = noise(40, 48)
    # 192 is 186 in whole cells of 8: no padded convolution sees its own zeros 24 cells inside.
    inner = padded(ReflectionMargin(192)(image))[:, :, 24:-24, 24:-24]
    torch.testing.assert_close(inner, reflected(image), rtol=1e-9, atol=1e-12)


def test_modes_differ_at_borders_only_in_value():
    image = noise(40, 48)
    a, b = frontend().eval()(image), frontend("reflect").eval()(image)
    assert a.shape == b.shape and not torch.allclose(a, b)


def test_unknown_padding_names_the_key():
    with pytest.raises(UserError, match=r"MODEL.FRONTEND.PADDING is 'zero', expected one of"):
        frontend("zero")


@pytest.mark.parametrize("padding", ["padded", "reflect"])
def test_output_cells_are_centred_where_the_segmentor_says(padding):
    segmentor = frontend(padding).double().eval()
    for stage in segmentor.stages.values():
        for name, module in stage.named_children():
            if isinstance(module, nn.MaxPool2d):
                setattr(stage, name, nn.AvgPool2d(2))
    for module in segmentor.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    images = torch.full((1, 3, 16, 801), 255.0, dtype=torch.float64, requires_grad=True)
    features = segmentor.run(images, until="fc7")
    positions = segmentor.input_positions(features.shape[-1])
    for cell in (48, 52):
        gradient = torch.autograd.grad(features[..., cell].sum(), images, retain_graph=True)[0]
        mass = gradient.abs().sum(dim=(0, 1, 2))
        seen = mass.nonzero()
        # The receptive field of fc7: 380 input pixels.
        assert seen[-1] - seen[0] + 1 == 380
        center = (mass * torch.arange(801)).sum() / mass.sum()
        assert center.item() == pytest.approx(positions[cell].item(), abs=1e-6)


def test_chunks_change_no_number():
    torch.manual_seed(0)
    conv = ChunkedConv2d(2, 2500, 7, padding=12, dilation=4).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 2500, 5, 6, dtype=torch.float64)
    inputs = [x, conv.weight, conv.bias]
    ours = torch.autograd.grad((conv(x) * upstream).sum(), inputs)
    whole = F.conv2d(x, conv.weight, conv.bias, padding=12, dilation=4)
    torch.testing.assert_close(conv(x), whole, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.grad((whole * upstream).sum(), inputs)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("padding", ["padded", "reflect"])
def test_every_cut_equals_the_whole_and_all_is_trained(padding):
    segmentor = frontend(padding, width=1 / 16)
    images = noise(48, 64)
    segmentor.eval()
    whole = segmentor(images)
    for cut in segmentor.cuts:
        features = segmentor.run(images, until=cut)
        kept = features.clone()
        assert features.shape[1] == segmentor.channels_at(cut)
        assert torch.equal(segmentor.run(features, after=cut), whole)
        assert torch.equal(features, kept), f"{cut}: the feature was overwritten"
    segmentor.train()(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in segmentor.parameters())


def test_torchvisions_convolutions_are_loaded(tmp_path):
    """Random numbers under torchvision's names and shapes, at full width."""
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in torchvision.models.vgg16().state_dict().items()}
        segmentor = network("vgg16_frontend", 3)
    # One number per tensor keeps 0.5 GB of file and 0.5 GB of memory away.
    state = {n: torch.tensor(float(i)).expand(s) for i, (n, s) in enumerate(shapes.items(), 1)}
    torch.save(state, tmp_path / "vgg16-397923af.pth")
    segmentor.stages["fc6"] = segmentor.stages["fc7"] = nn.Identity()
    segmentor.to_empty(device="cpu")
    segmentor.preprocessing = Preprocessing("torchvision")
    report = load_weights(segmentor, tmp_path / "vgg16-397923af.pth")
    convs = [n for n in shapes if n.startswith("features") and n.endswith("weight")]
    ours = [m for m in segmentor.stages.modules() if isinstance(m, nn.Conv2d)][:13]
    assert len(report.matched) == 26
    for name, conv in zip(convs, ours, strict=True):
        assert torch.equal(conv.weight, state[name])
