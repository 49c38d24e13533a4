"""The architectures: sizes, strides, heads, and the classifiers that pre-train them."""

import math

import pytest
import torch
import torchvision
from architectures import ALIGNED, noise, thin
from conftest import network
from torch import nn

from seg_adapt.models.aspp import ASPP
from seg_adapt.models.resnet import resnet_stages
from seg_adapt.options import AsppOptions
from shared.errors import UserError


@pytest.mark.parametrize(
    ("architectures", "image", "output"),
    [
        (ALIGNED, (512, 1024), (65, 129)),
        (ALIGNED, (321, 321), (41, 41)),
        (ALIGNED, (720, 1280), (91, 161)),
        (("vgg16_fc7_d4",), (512, 1024), (64, 128)),
        (("resnet101",), (730, 730), (92, 92)),
        (("pspnet_resnet101",), (713, 713), (90, 90)),
    ],
)
def test_output_sizes(architectures, image, output):
    for architecture in architectures:
        with torch.device("meta"):
            segmentor = network(architecture, 19).eval()
            logits = segmentor(torch.empty(1, 3, *image, dtype=torch.uint8))
        assert logits.shape == (1, 19, *output), architecture
        assert segmentor.upsample(logits, image).shape == (1, 19, *image)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "pspnet_resnet18"])
@pytest.mark.parametrize(("stride", "cells"), [(8, (9, 13)), (16, (5, 7)), (32, (3, 4))])
def test_output_strides_of_a_resnet(architecture, stride, cells):
    segmentor = thin(architecture, output_stride=stride).eval()
    images = noise(65, 97)
    assert segmentor(images).shape[-2:] == cells
    for stage in ("stem", "layer1", "layer2", "layer3", "layer4"):
        features = segmentor.run(images, until=stage)
        strides = [64 / (size - 1) for size in features.shape[-2:-1]]
        assert strides == [segmentor.stride_at(stage)], stage
    positions = segmentor.input_positions(features.shape[-1], "layer4")
    assert positions.tolist() == [stride * i for i in range(cells[1])]


def test_output_strides_that_cannot_be_had():
    with pytest.raises(UserError, match="a ResNet can have 8, 16 or 32"):
        thin(output_stride=4)
    with pytest.raises(UserError, match=r"MODEL\.OUTPUT_STRIDE is 16, but that of vgg16 is 8"):
        thin("vgg16", output_stride=16)


def _with_average_pools(module: nn.Module) -> None:
    """Maximum pools route a gradient to one pixel of a window; averages show the window."""
    for name, child in module.named_children():
        if isinstance(child, nn.MaxPool2d):
            pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
            setattr(module, name, pool)
        else:
            _with_average_pools(child)


@pytest.mark.parametrize(
    ("architecture", "layout"),
    [
        ("resnet18", "torchvision"),
        ("resnet50", "torchvision"),
        ("resnet50", "caffe"),
        ("vgg16", "torchvision"),
        ("vgg16_fc7_d4", "torchvision"),
    ],
)
def test_output_cells_are_centred_where_the_segmentor_says(architecture, layout):
    segmentor = thin(architecture, layout=layout).eval().double()
    _with_average_pools(segmentor)
    for module in segmentor.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    images = torch.full((1, 3, 33, 701), 255.0, dtype=torch.float64, requires_grad=True)
    features = segmentor.run(images, until=segmentor.feature_stage)
    positions = segmentor.input_positions(features.shape[-1])
    for cell in (40, 43):
        gradient = torch.autograd.grad(features[..., cell].sum(), images, retain_graph=True)[0]
        mass = gradient.abs().sum(dim=(0, 1, 2))
        assert mass[0] == 0 and mass[-1] == 0, "the receptive field is cut off"
        center = (mass * torch.arange(701)).sum() / mass.sum()
        assert center.item() == pytest.approx(positions[cell].item(), abs=1e-6)


def test_every_aspp_branch_is_trained():
    torch.manual_seed(0)
    head = ASPP(8, 3, rates=(6, 12, 18, 24))
    features = torch.randn(1, 8, 33, 33)
    logits = head(features)
    torch.testing.assert_close(logits, torch.stack([b(features) for b in head.branches]).sum(0))
    logits.square().mean().backward()
    assert [branch.dilation[0] for branch in head.branches] == [6, 12, 18, 24]
    assert all(branch.weight.grad.abs().sum() > 0 for branch in head.branches)
    assert all(branch.bias.grad.abs().sum() > 0 for branch in head.branches)
    assert head.branches[3].weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_every_aspp_l_branch_is_trained():
    segmentor = thin("vgg16")
    segmentor(noise()).square().mean().backward()
    branches = segmentor.stages["head"].classifier.branches
    assert len(branches) == 4
    for branch in branches:
        assert branch.fc6.weight.grad.abs().sum() > 0 and branch.fc8.weight.grad.abs().sum() > 0


def test_large_fov_is_one_branch_of_rate_12_after_an_average():
    segmentor = thin("vgg16_largefov", aspp=AsppOptions(rates=(6, 24))).eval()
    head = segmentor.stages["head"]
    features = segmentor.run(noise(), until="conv5")
    pooled = nn.functional.max_pool2d(features, 3, 1, 1)
    # Caffe's average counts the padding as well.
    pooled = nn.functional.avg_pool2d(nn.functional.pad(pooled, (1, 1, 1, 1)), 3, 1)
    (branch,) = head.classifier.branches
    fc6 = nn.functional.conv2d(pooled, branch.fc6.weight, branch.fc6.bias, padding=12, dilation=12)
    fc7 = nn.functional.conv2d(fc6.relu(), branch.fc7.weight, branch.fc7.bias).relu()
    logits = nn.functional.conv2d(fc7, branch.fc8.weight, branch.fc8.bias)
    torch.testing.assert_close(segmentor(noise()), logits)
    assert branch.fc6.weight.shape[2:] == (3, 3) and branch.fc7.weight.shape[2:] == (1, 1)


def test_aspp_options():
    assert len(ASPP(4, 2, rates=[6, 12]).branches) == 2
    assert ASPP(4, 2, bias=False).branches[0].bias is None


def test_dilations_and_strides():
    for depth, layout in ((18, "torchvision"), (50, "torchvision"), (50, "caffe")):
        stages, _ = resnet_stages(depth, width=1 / 16, layout=layout)
        for name, dilation in (("layer1", 1), ("layer2", 1), ("layer3", 2), ("layer4", 4)):
            convs = [m for m in stages[name].modules() if isinstance(m, nn.Conv2d)]
            kernels = [conv for conv in convs if conv.kernel_size == (3, 3)]
            assert {conv.dilation for conv in kernels} == {(dilation, dilation)}
            assert {conv.padding for conv in kernels} == {(dilation, dilation)}
            if name != "layer2":
                assert {conv.stride for conv in convs} == {(1, 1)}
        first = stages["layer2"][0]
        strides = (first.conv1.stride[0], first.conv2.stride[0])
        assert strides == ((1, 2) if (depth, layout) == (50, "torchvision") else (2, 1))


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_undilated_stages_are_torchvision_s(architecture):
    torch.manual_seed(0)
    reference = torchvision.models.get_model(architecture).eval()
    stages, _ = resnet_stages(int(architecture[6:]), output_stride=32)
    ours = nn.Sequential(*stages.values()).eval()
    theirs = nn.Sequential(*list(reference.children())[:-2])
    state = zip(ours.state_dict(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(state))
    # 65 pixels: the stem's pool gives 17 whether it rounds up or down.
    images = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_width_scales_the_parameters():
    def count(width: float) -> int:
        stages, _ = resnet_stages(18, width=width)
        return sum(p.numel() for stage in stages.values() for p in stage.parameters())

    assert math.isclose(count(1.0) / count(0.5), 4, rel_tol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "resnet10"}, "did you mean 'resnet101'"),
        ({"num_classes": 0}, "num_classes"),
        ({"width": 0.0}, "MODEL.WIDTH is 0.0, expected more than 0"),
        ({"layout": "pytorch"}, "MODEL.LAYOUT is 'pytorch', expected one of torchvision, caffe"),
        ({"preprocessing": "rgb"}, "MODEL.PREPROCESSING is 'rgb', expected one of torchv"),
        ({"bn": "fixed"}, "MODEL.BN is 'fixed', expected one of frozen, train"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        network(**{"architecture": "resnet18", "width": 0.1} | options)
