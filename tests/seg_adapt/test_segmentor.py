"""Cuts, parameter groups, BatchNorm and frozen copies of a segmentor."""

import pytest
import torch
from architectures import ARCHITECTURES, noise, thin
from torch import nn

from seg_adapt.options import LayerRates
from shared.errors import UserError


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_cut_equals_the_whole(architecture):
    segmentor = thin(architecture).eval()
    images = noise()
    whole = segmentor(images)
    assert set(segmentor.stages) - {"auxiliary"} <= set(segmentor.cuts)
    for cut in segmentor.cuts:
        features = segmentor.run(images, until=cut)
        kept = features.clone()
        assert features.shape[1] == segmentor.channels_at(cut), cut
        assert torch.equal(segmentor.run(features, after=cut), whole), cut
        assert torch.equal(features, kept), f"{cut}: the feature was overwritten"
        both = segmentor.outputs(images, cut)[:2]
        assert torch.equal(both[0], features) and torch.equal(both[1], whole)


def test_a_cut_between_residual_blocks():
    segmentor = thin("resnet50").eval()
    features = segmentor.run(noise(), until="layer4.1")
    last = segmentor.stages["layer4"][2]
    assert torch.equal(last(features), segmentor.run(noise(), until="layer4"))
    middle = segmentor.run(noise(), until="layer2")
    assert torch.equal(segmentor.run(middle, after="layer2", until="layer4.1"), features)


def test_wrong_cuts_name_the_right_ones():
    segmentor = thin()
    with pytest.raises(UserError, match=r"stem, layer1, layer2, layer3, layer4, head"):
        segmentor.run(noise(), until="conv5")
    with pytest.raises(UserError, match=r"layer4\.0, layer4\.1"):
        segmentor.run(noise(), until="layer4.7")
    with pytest.raises(UserError, match="before"):
        segmentor.run(noise(), after="layer3", until="layer2")


@pytest.mark.parametrize("architecture", ["resnet18", "pspnet_resnet18", "vgg16", "vgg16_fc7_d4"])
def test_parameters_are_grouped_once(architecture):
    segmentor = thin(architecture, bn_affine=False)
    rates = LayerRates(backbone_lr_mult=3.0, head_lr_mult=10.0, bias_lr_mult=2.0, bias_decay=False)
    groups = segmentor.parameter_groups(rates)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = {id(p): name for name, p in segmentor.named_parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped)) and set(grouped) == set(trainable)
    for group in groups:
        for parameter in group["params"]:
            name = trainable[id(parameter)]
            new = name.split(".")[1] in ("fc", "ppm", "head", "auxiliary")
            bias = name.endswith(".bias")
            assert group["lr_mult"] == (10.0 if new else 3.0) * (2.0 if bias else 1.0), name
            assert group["weight_decay_mult"] == (0.0 if bias else 1.0), name


def test_parameter_groups_by_default_decay_everything():
    groups = thin("vgg16").parameter_groups(LayerRates())
    assert sorted(group["lr_mult"] for group in groups) == [1.0, 10.0]
    assert {group["weight_decay_mult"] for group in groups} == {1.0}


def test_frozen_stages_are_in_no_group():
    segmentor = thin(freeze_stages=["stem", "layer1"])
    frozen = {n.split(".")[1] for n, p in segmentor.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "layer1"}
    with pytest.raises(UserError, match="conv1"):
        thin(freeze_stages=["conv1"])


def _norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]


def test_frozen_batch_norm_survives_train():
    segmentor = thin(bn="frozen")
    parent = nn.ModuleList([segmentor])
    parent.eval().train()
    assert segmentor.stages["head"].training
    assert not any(norm.training for norm in _norms(segmentor))
    before = [norm.running_mean.clone() for norm in _norms(segmentor)]
    segmentor(noise())
    after = [norm.running_mean for norm in _norms(segmentor)]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_trained_batch_norm_follows_train():
    segmentor = thin(bn="train")
    segmentor(noise())
    norms = _norms(segmentor)
    assert all(norm.training and norm.num_batches_tracked == 1 for norm in norms)
    assert not any(norm.training for norm in _norms(segmentor.eval()))


def test_batch_norm_affine_can_be_left_untrained():
    for affine in (True, False):
        segmentor = thin(bn_affine=affine)
        assert all(
            n.weight.requires_grad == n.bias.requires_grad == affine for n in _norms(segmentor)
        )


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50", "pspnet_resnet18", "vgg16"])
def test_a_frozen_copy_stays_as_it_was(architecture):
    segmentor = thin(architecture, bn="frozen")
    method = nn.Module()
    method.segmentor = segmentor
    teacher = segmentor.frozen_copy(segmentor.feature_stage)
    method.teacher = teacher
    method.train()
    images = noise()
    features = segmentor.run(images, until=segmentor.feature_stage)
    assert torch.equal(teacher(images), features)
    assert not teacher(images).requires_grad and features.requires_grad
    assert not any(name.startswith("teacher") for name in method.state_dict())
    assert not any(name.startswith("teacher") for name, _ in method.named_parameters())

    taught = teacher(images)
    with torch.no_grad():
        for parameter in segmentor.parameters():
            parameter.add_(0.1)
    assert torch.equal(teacher(images), taught)
    assert not torch.equal(segmentor.run(images, until=segmentor.feature_stage), taught)


def test_a_frozen_copy_keeps_its_statistics_and_follows_its_parent_s_type():
    segmentor = thin(bn="train")
    method = nn.ModuleList([segmentor, segmentor.frozen_copy("layer2.0")])
    before = method[1](noise())
    method.train()
    segmentor(noise())
    assert torch.equal(method[1](noise()), before)
    method.double()
    after = method[1](noise())
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), before, rtol=1e-4, atol=1e-4)


def test_upsampling_follows_align_corners():
    ramp = torch.arange(3.0).expand(1, 1, 3, 3)
    aligned = thin(align_corners=True).upsample(ramp, (5, 5))[0, 0, 0]
    torch.testing.assert_close(aligned, torch.tensor([0, 0.5, 1, 1.5, 2]))
    corners = thin(align_corners=False).upsample(ramp, (5, 6))[0, 0, 0]
    torch.testing.assert_close(corners, torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2]))
