"""PSPNet's layers, and what a second head means to the segmentor around it."""

import math

import pytest
import torch
from conftest import random_batches, tiny_segmentor
from torch import Tensor, nn

from seg_adapt.models.psp import PyramidPooling, psp_classifier
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import load_weights
from shared.errors import UserError


def pspnet(**arguments) -> Segmentor:
    return tiny_segmentor(architecture="pspnet_resnet18", **arguments)


def images() -> Tensor:
    return random_batches()[0].images


def averages(channel: Tensor, cells: int) -> Tensor:
    """(h, w) to (cells, cells): cell i spans floor(i h / cells) to ceil((i+1) h / cells)."""
    height, width = channel.shape
    out = torch.zeros(cells, cells, dtype=channel.dtype)
    for i in range(cells):
        for j in range(cells):
            rows = slice(i * height // cells, math.ceil((i + 1) * height / cells))
            columns = slice(j * width // cells, math.ceil((j + 1) * width / cells))
            out[i, j] = channel[rows, columns].mean()
    return out


def stretched(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear between the grid's corner cells, which lie on the map's corner pixels."""
    out = torch.zeros(size, dtype=grid.dtype)
    for y in range(size[0]):
        for x in range(size[1]):
            v = y * (grid.shape[0] - 1) / (size[0] - 1)
            u = x * (grid.shape[1] - 1) / (size[1] - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, grid.shape[0] - 1), min(left + 1, grid.shape[1] - 1)
            above = (1 - (u - left)) * grid[top, left] + (u - left) * grid[top, right]
            below = (1 - (u - left)) * grid[bottom, left] + (u - left) * grid[bottom, right]
            out[y, x] = (1 - (v - top)) * above + (v - top) * below
    return out


def test_pyramid_pooling_equals_loops():
    torch.manual_seed(0)
    pyramid = PyramidPooling(8).double().eval()
    for branch in pyramid.branches:
        branch.bn.running_mean.normal_()
        branch.bn.running_var.uniform_(0.5, 2)
    features = torch.randn(1, 8, 7, 10, dtype=torch.float64)
    out = pyramid(features)
    assert out.shape == (1, pyramid.out_channels, 7, 10) == (1, 16, 7, 10)
    assert torch.equal(out[:, :8], features)
    position = 8
    for cells, branch in zip((1, 2, 3, 6), pyramid.branches, strict=True):
        pooled = torch.stack([averages(channel, cells) for channel in features[0]])
        reduced = torch.einsum("oc,chw->ohw", branch.conv.weight[:, :, 0, 0], pooled)
        mean, deviation = branch.bn.running_mean, (branch.bn.running_var + branch.bn.eps).sqrt()
        reduced = ((reduced - mean[:, None, None]) / deviation[:, None, None]).clamp(min=0)
        for channel in reduced:
            torch.testing.assert_close(out[0, position], stretched(channel, (7, 10)))
            position += 1


@pytest.mark.parametrize("size", [(1, 1), (2, 9)])
def test_pyramid_pooling_of_maps_smaller_than_its_grids(size):
    out = PyramidPooling(4).eval()(torch.randn(1, 4, *size))
    assert out.shape == (1, 8, *size) and out.isfinite().all()


def test_one_training_image_is_refused_in_one_line():
    pyramid = PyramidPooling(4)
    with pytest.raises(UserError, match=r"1 image.*SOLVER\.IMS_PER_BATCH") as caught:
        pyramid(torch.randn(1, 4, 5, 5))
    assert "\n" not in str(caught.value)
    assert pyramid(torch.randn(2, 4, 5, 5)).isfinite().all()


def test_full_size_layers_are_the_paper_s():
    with torch.device("meta"):
        segmentor = tiny_segmentor(19, architecture="pspnet_resnet101", width=1.0)
    stages = segmentor.stages
    assert [b.conv.weight.shape[:2] for b in stages["ppm"].branches] == [(512, 2048)] * 4
    assert stages["head"].conv.weight.shape == (512, 4096, 3, 3)
    assert stages["auxiliary"].conv.weight.shape == (256, 1024, 3, 3)
    assert stages["head"].classifier.weight.shape == (19, 512, 1, 1)
    assert stages["head"].dropout.p == 0.1 and segmentor.auxiliary_weight == 0.4


def test_the_auxiliary_head_speaks_in_training_only():
    segmentor = pspnet()
    assert segmentor.eval().outputs(images()).auxiliary is None
    assert segmentor(images()).shape == (2, 5, 5, 7)
    assert segmentor.train().outputs(images()).auxiliary.shape == (2, 5, 5, 7)
    assert tiny_segmentor().outputs(images()).auxiliary is None


@pytest.mark.parametrize("cut", [None, "layer2.0", "layer3", "layer3.0", "layer3.1", "ppm", "head"])
def test_one_pass_gives_features_logits_and_auxiliary(cut):
    """The branch lies before, at and behind the cut."""
    segmentor = pspnet()
    for module in segmentor.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    outputs = segmentor.outputs(images(), cut)
    assert torch.equal(outputs.features, segmentor.run(images(), until=cut or "layer4"))
    assert torch.equal(outputs.logits, segmentor(images()))
    branch = segmentor.run(images(), until="layer3")
    assert torch.equal(outputs.auxiliary, segmentor.stages["auxiliary"](branch))


def test_the_auxiliary_head_is_no_cut():
    segmentor = pspnet()
    assert "auxiliary" not in segmentor.cuts
    with pytest.raises(UserError, match=r"'auxiliary': available: .*layer4, ppm, head$"):
        segmentor.run(images(), until="auxiliary")


def test_every_part_learns():
    segmentor = pspnet(bn="train")
    outputs = segmentor.outputs(images())
    (outputs.logits.square().mean() + outputs.auxiliary.square().mean()).backward()
    silent = [n for n, p in segmentor.named_parameters() if not p.grad.abs().sum() > 0]
    assert not silent


def test_new_layers_normalize_by_the_batch_over_a_frozen_backbone():
    segmentor = pspnet(bn="frozen", bn_affine=False)
    segmentor.outputs(images())
    for name, stage in segmentor.stages.items():
        new = name in ("ppm", "head", "auxiliary")
        for norm in (m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)):
            assert norm.training == new == bool(norm.num_batches_tracked)
            assert norm.weight.requires_grad == new


def test_files_and_checkpoints_hold_the_auxiliary_head(tmp_path):
    first, second = pspnet(), pspnet()
    with torch.no_grad():
        first.stages["auxiliary"].classifier.bias.fill_(3.0)
    torch.save({"segmentor": first.state_dict()}, tmp_path / "own.pt")
    report = load_weights(second, tmp_path / "own.pt")
    assert not report.missing and not report.unexpected
    assert (second.stages["auxiliary"].classifier.bias == 3).all()


def test_the_classifier_drops_whole_channels():
    torch.manual_seed(0)
    head = psp_classifier(4, 64, 3)
    hidden = head[:4](torch.randn(4, 4, 6, 6)).flatten(2)
    before = head[:3](torch.randn(4, 4, 6, 6)).flatten(2)
    dropped = (hidden == 0).all(dim=2).float().mean().item()
    assert (before == 0).all(dim=2).float().mean().item() < 0.01 < 0.05 < dropped < 0.2
