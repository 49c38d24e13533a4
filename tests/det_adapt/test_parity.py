"""The two engines are one detector: same weights, same images, same numbers (fp32 on the CPU)."""

import pytest
import torch
from networks import (
    ADVERSARY,
    C4,
    DA_FASTER,
    EMPTY,
    FPN,
    FPN_GN,
    ONE,
    RELEASED,
    RESNET18,
    TIMM,
    TWO,
    VGG16,
    build,
    recording,
    unlabeled,
)
from timm.layers import FrozenBatchNormAct2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from det_adapt.weight_names import from_detectron2, to_detectron2

pytestmark = pytest.mark.detectron2

TOLERANCE = 1e-5
MODELS = {
    "vgg16": VGG16,
    "vgg16_roipool_bgr": VGG16
    | {
        "INPUT.FORMAT": "BGR",
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIPool",
    },
    "resnet50_c4": C4,
    "resnet50_c4_torchvision": C4
    | {
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.NUM_GROUPS": 2,
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
        "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": False,
    },
    "resnet18_c4_bn": C4
    | {
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.BACKBONE.FREEZE_AT": 1,
    },
    "resnet18_c4_gn": RESNET18,
    "timm_fpn": TIMM,
    "resnet50_fpn": FPN,
    "resnet18_fpn_gn_roipool": FPN_GN
    | {
        "MODEL.ANCHOR_GENERATOR.OFFSET": 0.5,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIPool",
        "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIPool",
    },
    "vgg16_released": VGG16 | RELEASED,
    "resnet50_c4_released": C4 | RELEASED | {"MODEL.RESNETS.STRIDE_IN_1X1": False},
}


@pytest.fixture(scope="module", params=MODELS)
def engines(request):
    """(ours, Detectron2's) with the same weights, built from the same keys."""
    keys = MODELS[request.param] | ADVERSARY | DA_FASTER
    ours, theirs = tamed(build("torchvision", keys)), build("detectron2", keys)
    unlike = theirs.load_state_dict(to_detectron2(ours.state_dict()), strict=False)
    assert counters_only(unlike.missing_keys) and not unlike.unexpected_keys
    return ours, theirs


def counters_only(names):
    """Detectron2 keeps the counters of frozen BatchNorms; they count nothing."""
    return all(name.endswith("num_batches_tracked") for name in names)


def tamed(detector):
    """Random weights under which no layer explodes and every head has an opinion."""
    generator = torch.Generator().manual_seed(1)

    def uniform(tensor, low, high):
        with torch.no_grad():
            tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    for module in detector.modules():
        frozen = isinstance(module, FrozenBatchNorm2d | FrozenBatchNormAct2d)
        if frozen or isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            uniform(module.weight, 0.4, 0.8)
            uniform(module.bias, -0.1, 0.1)
        if frozen or isinstance(module, nn.BatchNorm2d):
            uniform(module.running_mean, -0.1, 0.1)
            uniform(module.running_var, 0.5, 1.5)
    rpn, boxes = detector.rpn.head, detector.roi_heads.box_predictor
    for layer, spread in ((rpn.cls_logits, 3), (rpn.bbox_pred, 0.1)):
        uniform(layer.weight, -spread, spread)
    for layer, spread in ((boxes.cls_score, 3), (boxes.bbox_pred, 1)):
        spread /= layer.in_features**0.5
        uniform(layer.weight, -spread, spread)
    for layer in detector.roi_heads.mask_head.modules():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            uniform(layer.weight, -1, 1)
            nn.init.constant_(layer.bias, 0.3)
    return detector


BATCHES = {"one": [ONE], "equal_sizes": [ONE, EMPTY], "padded": [ONE, TWO, EMPTY]}


@pytest.fixture(params=BATCHES)
def samples(request):
    return BATCHES[request.param]


def difference(first, second):
    assert first.shape == second.shape
    return (first - second).abs().max().item() if first.numel() else 0.0


def close(first, second):
    """To the tolerance, of values of the order of one or relative to larger ones."""
    return difference(first, second) <= TOLERANCE * max(1.0, second.abs().max().item())


def trained(engine, samples):
    """Losses and maps under the samplers' seed."""
    engine.train()
    engine.zero_grad()
    torch.manual_seed(5)
    with recording("detectron2"):
        return engine.source(samples)


def has_batch_norm(engine):
    """With few and alike regions, weights moved by 1e-7 change Detectron2's own by percents."""
    return any(isinstance(module, nn.BatchNorm2d) for module in engine.modules())


def test_weights_have_one_name_each_in_both(engines):
    ours, theirs = engines
    renamed = to_detectron2(ours.state_dict())
    expected = theirs.state_dict()
    assert set(renamed) <= set(expected) and counters_only(set(expected) - set(renamed))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in renamed.items())
    back = from_detectron2(expected)
    assert set(ours.state_dict()) <= set(back)
    assert all(torch.equal(back[name], own) for name, own in ours.state_dict().items())
    trainable = {n for n, p in theirs.named_parameters() if p.requires_grad}
    own_trainable = {n: p for n, p in ours.named_parameters() if p.requires_grad}
    assert set(to_detectron2(own_trainable)) == trainable


def test_widths_that_the_adversary_asks_for(engines):
    ours, theirs = engines
    for name in ("feature_channels", "anchors", "lower_channels"):
        assert getattr(ours, name) == getattr(theirs, name)


@torch.no_grad()
def test_anchors(engines):
    ours, theirs = engines
    features = [torch.zeros(2, 4, 7 + number, 11) for number in range(len(ours.read))]
    expected = theirs.proposal_generator.anchor_generator(features)
    for found, true in zip(ours.rpn.anchor_generator(features), expected, strict=True):
        assert close(found, true.tensor)


@torch.no_grad()
def test_features_logits_and_proposals(engines, samples):
    ours, theirs = engines[0].eval(), engines[1].eval()
    images, sizes = ours.batch_images(samples)
    expected_images = theirs.preprocess_image(theirs.inputs(samples))
    assert torch.equal(images, expected_images.tensor)
    maps, expected_maps = ours.backbone(images), theirs.backbone(images)
    assert set(expected_maps) <= set(maps)
    for name, expected in expected_maps.items():
        assert close(maps[name], expected)
    features = [maps[name] for name in ours.read]
    logits, deltas = ours.rpn.head(features)
    generator = theirs.proposal_generator
    predictions = generator.rpn_head([expected_maps[name] for name in theirs.read])
    for own, their in zip((logits, deltas), predictions, strict=True):
        assert all(close(*pair) for pair in zip(own, their, strict=True))
    assert logits[0].std() > 0.1
    found, losses = ours.rpn(features, logits, deltas, sizes)
    expected, _ = generator(expected_images, expected_maps)
    assert losses == {}
    for own, true in zip(found, expected, strict=True):
        assert len(own) > 10
        assert close(own, true.proposal_boxes.tensor)


@torch.no_grad()
def test_detections_and_masks(engines, samples):
    ours, theirs = engines
    found, expected = ours.eval().detect(samples), theirs.eval().detect(samples)
    assert sum(len(each) for each in found) > 10 * len(samples)
    for own, true in zip(found, expected, strict=True):
        assert torch.equal(own.classes, true.classes)
        assert close(own.boxes, true.boxes)
        assert close(own.scores, true.scores)
        assert own.masks.any()
        # A pixel whose probability is 0.5 up to rounding may fall on either side.
        assert (own.masks != true.masks).float().mean() <= 1e-6


def test_losses_and_gradients_under_one_seed(engines, samples):
    ours, theirs = engines
    found, _ = trained(ours, samples)
    expected, _ = trained(theirs, samples)
    assert set(found) == set(expected)
    assert len(found) == 5
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name].item(), abs=TOLERANCE), name
        assert loss > 0, name
    if has_batch_norm(ours):
        return
    sum(found.values()).backward()
    sum(expected.values()).backward()
    gradients = to_detectron2({n: p.grad for n, p in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None:
            assert gradients[name] is None
        else:
            assert close(gradients[name], parameter.grad), name


@torch.no_grad()
def test_maps_of_both_domains(engines, samples):
    ours, theirs = engines
    target = [unlabeled(each) for each in samples]
    pairs = [(trained(ours, samples)[1], trained(theirs, samples)[1])]
    pairs.append((ours.target(target), theirs.target(target)))
    padded = len({each.image.shape for each in samples}) > 1 or ours.backbone.divisor > 1
    for found, expected in pairs:
        wanted = {*ours.sap.features, *ours.read}
        assert found.features.keys() == expected.features.keys() == wanted
        assert [len(own) for own in found.regions] == [8] * len(samples)
        if not has_batch_norm(ours):
            assert all(map(close, found.regions, expected.regions))
        assert found.logits.keys() == expected.logits.keys() == set(ours.sap.guides)
        for name, maps in found.features.items():
            for own, true in zip(maps, expected.features[name], strict=True):
                assert close(own, true)
        for name, maps in found.logits.items():
            for own, true in zip(maps, expected.logits[name], strict=True):
                # At the border, Detectron2's have seen the padding.
                inner = (..., slice(-1), slice(-1)) if padded else ...
                assert close(own[inner], true[inner])
