"""What only the torchvision engine has: its own formulas, optimizers, checkpoints and errors."""

import math

import pytest
import torch
from networks import (
    EMPTY,
    FPN,
    FPN_GN,
    ONE,
    RESNET18,
    RESNET18_STRIDE_8,
    VGG16,
    build,
    config,
)

from det_adapt.engines import engine_defaults
from det_adapt.structures import Sample
from det_adapt.torchvision_engine import build_detector, build_optimizer
from det_adapt.torchvision_engine.trainer import rate_factor
from shared.errors import UserError

MODELS = {
    "resnet18": RESNET18,
    "vgg16": VGG16,
    "resnet18_stride_8": RESNET18_STRIDE_8,
    "resnet18_fpn": FPN_GN,
}


@pytest.fixture(params=MODELS)
def detector(request):
    return build("torchvision", MODELS[request.param])


@pytest.mark.parametrize("one", [EMPTY, ONE], ids=["empty", "objects"])
def test_no_proposals(detector, one):
    features = [torch.randn(1, detector.feature_channels, 5, 7) for _ in detector.pooled]
    none, sizes = [torch.zeros(0, 4)], [(121, 175)]
    target = {"boxes": one.boxes, "labels": one.classes + 1, "masks": one.masks}
    _, losses = detector.train().roi_heads(features, none, sizes, [target])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    [found], _ = detector.eval().roi_heads(features, none, sizes)
    assert [len(found[name]) for name in ("boxes", "scores", "classes", "masks")] == [0] * 4


def test_diverged_weights_give_no_detections_rather_than_an_error(detector):
    with torch.no_grad():
        detector.rpn.head.bbox_pred.bias.fill_(math.nan)
    [found] = detector.eval().detect([ONE])
    assert len(found) == 0
    assert found.masks.shape == (0, 242, 321)


def test_each_image_is_detected_as_if_it_were_alone_where_sizes_agree():
    detector = build("torchvision", RESNET18).eval()
    together = detector.detect([ONE, EMPTY])
    for each, expected in zip((ONE, EMPTY), together, strict=True):
        [alone] = detector.detect([each])
        torch.testing.assert_close(alone.boxes, expected.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(alone.scores, expected.scores, rtol=0, atol=1e-5)


def test_images_are_normalized_in_the_networks_order_and_padded_with_zero():
    keys = {"MODEL.PIXEL_MEAN": [10, 20, 30], "MODEL.PIXEL_STD": [2, 4, 5]}
    image = torch.tensor([111, 120, 130], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 6)
    samples = [Sample(image, "a", 4, 6), Sample(image[:, :3, :5], "b", 3, 5)]
    for order, expected in (("RGB", (50.5, 25.0, 20.0)), ("BGR", (60.0, 25.0, 16.2))):
        batch, sizes = build("torchvision", RESNET18 | keys, INPUT__FORMAT=order).batch_images(
            samples
        )
        assert sizes == [(4, 6), (3, 5)]
        assert batch.shape == (2, 3, 4, 6)
        assert batch[0, :, 0, 0].tolist() == pytest.approx(list(expected))
        assert torch.equal(batch[1, :, :3, :5], batch[0, :, :3, :5])
        assert not batch[1, :, 3:].any() and not batch[1, :, :, 5:].any()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.BACKBONE.NAME": "build_mobilenet"}, "unknown MODEL.BACKBONE.NAME of the torchv"),
        ({"MODEL.RESNETS.DEPTH": 20}, "MODEL.RESNETS.DEPTH is 20, expected one of 18"),
        ({"MODEL.RESNETS.STEM_OUT_CHANNELS": 24}, "multiples of 32"),
        ({"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 30}, "a multiple of 4"),
        ({"MODEL.RPN.IN_FEATURES": ["res3", "res4"]}, "MODEL.RPN.IN_FEATURES"),
        ({"MODEL.RPN.IN_FEATURES": ["res3"]}, "expected the same one map in both"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64]]}, "SIZES has 2 lists, expected one"),
        ({"MODEL.ROI_HEADS.NAME": "StandardROIHeads"}, "MODEL.ROI_BOX_HEAD.NUM_FC is 0"),
        (
            {"MODEL.RPN.IN_FEATURES": ["res3"], "MODEL.ROI_HEADS.IN_FEATURES": ["res3"]},
            "reads a map of 256 channels, .* has 128",
        ),
        ({"SAP.LOWER.FEATURE": "conv3"}, "SAP.LOWER.FEATURE names 'conv3', expected one of stem"),
    ],
)
def test_wrong_values_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        build("torchvision", RESNET18 | keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.FPN.IN_FEATURES": ["res2", "res4", "res5"]}, "one after another up to stride 32"),
        (
            {"MODEL.FPN.IN_FEATURES": ["res3", "res4"]},
            r"expected maps .* of stem \(4\), res2 \(4\)",
        ),
        ({"MODEL.FPN.IN_FEATURES": ["res9"]}, r"MODEL.FPN.IN_FEATURES is \['res9'\]"),
        ({"MODEL.FPN.IN_FEATURES": []}, "MODEL.FPN.IN_FEATURES is"),
        ({"MODEL.RPN.IN_FEATURES": ["p7"]}, "names 'p7', expected one of p2, p3, p4, p5, p6"),
        ({"MODEL.RPN.IN_FEATURES": ["p3", "p2"]}, "the finest map first"),
        ({"MODEL.RPN.IN_FEATURES": []}, r"MODEL.RPN.IN_FEATURES is \[\]"),
        ({"MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p4"]}, "of regions one after another"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[8], [9]]}, "one for each of the 5 maps"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[8], [9], [9], [9], [9, 8]]}, "3, 3, 3, 3, 6 anchors"),
    ],
)
def test_wrong_values_of_a_feature_pyramid_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        build("torchvision", FPN | keys)


def test_masks_are_asked_for_by_name():
    without = Sample(ONE.image, "street 7", 121, 175, ONE.boxes, ONE.classes)
    with pytest.raises(UserError, match="'street 7' has no instance masks"):
        build("torchvision", RESNET18).train().source([without])


def test_groups_follow_detectron2s_keys():
    keys = {"WEIGHT_DECAY": 0.1, "WEIGHT_DECAY_NORM": 0.2, "BIAS_LR_FACTOR": 2.0, "BASE_LR": 0.5}
    solver = {f"SOLVER.{key}": value for key, value in keys.items()}
    adversary = {"SAP.ENABLED": True, "SAP.LR_MULT": 10.0, "MODEL.BACKBONE.FREEZE_AT": 1}
    cfg = config("torchvision", RESNET18 | solver | adversary)
    model = build_detector(cfg)
    groups = build_optimizer(cfg, model).param_groups
    found = {id(p): group for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    for name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if name.startswith("backbone.stem"):
                assert id(parameter) not in found
                continue
            group = found[id(parameter)]
            is_norm = isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm)
            assert group["weight_decay"] == (0.2 if is_norm else 0.1), name
            rate = (2.0 if own == "bias" else 1.0) * (10.0 if name.startswith("sap.") else 1.0)
            assert group["lr_mult"] == rate, name


def schedule(engine="torchvision", **keys):
    cfg = engine_defaults(engine)
    for key, value in keys.items():
        cfg.SOLVER[key] = value
    return cfg


def test_the_rate_warms_up_and_falls_in_steps():
    cfg = schedule(MAX_ITER=12, STEPS=(6, 9), WARMUP_ITERS=4, WARMUP_FACTOR=0.2, GAMMA=0.5)
    factors = [rate_factor(cfg, iteration) for iteration in range(12)]
    expected = [0.2, 0.4, 0.6, 0.8, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert factors == pytest.approx(expected)
    cfg.SOLVER.WARMUP_METHOD = "constant"
    assert [rate_factor(cfg, i) for i in range(6)] == pytest.approx([0.2] * 4 + [1, 1])


@pytest.mark.detectron2
@pytest.mark.parametrize("method", ["linear", "constant"])
def test_the_rate_is_detectron2s(method):
    from detectron2.solver import build_lr_scheduler

    keys = {"MAX_ITER": 20, "STEPS": (9, 15), "WARMUP_ITERS": 5, "WARMUP_METHOD": method}
    cfg = schedule("detectron2", **keys)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for iteration in range(20):
        assert rate_factor(cfg, iteration) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
