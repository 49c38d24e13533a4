"""What only the torchvision engine has: its own formulas, optimizers, checkpoints and errors."""

import math

import pytest
import torch
from networks import (
    EMPTY,
    FC_HEAD,
    FPN,
    FPN_GN,
    ONE,
    RESNET18,
    RESNET18_STRIDE_8,
    VGG16,
    build,
    config,
)
from torch import nn
from torchvision.ops import box_iou

from det_adapt.engines import engine_defaults
from det_adapt.structures import Sample
from det_adapt.torchvision_engine import build_detector, build_optimizer
from det_adapt.torchvision_engine.feature_pyramid import RegionPool
from det_adapt.torchvision_engine.masks import draw_masks, region_masks
from det_adapt.torchvision_engine.proposals import CellAnchors, ProposalNetwork
from det_adapt.torchvision_engine.roi_heads import DetectorHeads
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


def test_anchors_against_loops():
    anchors = CellAnchors([[16, 50], [9, 10]], [[0.5, 1.0, 3.0]], strides=[8, 32], offset=0.25)
    expected = []
    for row in range(3):
        for column in range(2):
            for size in (16, 50):
                for ratio in (0.5, 1.0, 3.0):
                    x, y = 8 * column + 2, 8 * row + 2
                    w, h = size / ratio**0.5, size * ratio**0.5
                    expected.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    found, coarse = anchors([torch.zeros(5, 7, 3, 2), torch.zeros(5, 7, 1, 1)])
    assert coarse.shape == (6, 4)
    torch.testing.assert_close(coarse[1], torch.tensor([3.5, 3.5, 12.5, 12.5]))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-4)


def offsets(box, reference, weights):
    """Fast R-CNN's four numbers."""
    (x1, y1, x2, y2), (a1, b1, a2, b2) = (map(float, each) for each in (box, reference))
    w, h, rw, rh = x2 - x1, y2 - y1, a2 - a1, b2 - b1
    moves = ((x1 + x2 - a1 - a2) / 2 / rw, (y1 + y2 - b1 - b2) / 2 / rh)
    values = (*moves, math.log(w / rw), math.log(h / rh))
    return [weight * value for weight, value in zip(weights, values, strict=True)]


def smooth_l1(found, wanted, beta):
    gap = abs(found - wanted)
    return gap - beta / 2 if gap >= beta else gap**2 / (2 * beta)


def test_a_region_is_pooled_from_the_map_that_suits_its_size():
    """FPN's Eq. 1: k = ⌊4 + log2(√(w h) / 224)⌋, of maps at strides 8, 16 and 32."""
    head = config("torchvision", FPN).MODEL.ROI_BOX_HEAD
    pool = RegionPool(head, [8, 16, 32])
    sides = [(0, 0), (3, 3), (111, 112), (112, 112), (50, 250), (223, 224), (224, 224), (447, 449)]
    sides += [(448, 448), (2000, 2000)]
    boxes = torch.tensor([(7.0, 5.0, 7.0 + w, 5.0 + h) for w, h in sides])
    octaves = [4 + math.log2(max((w * h) ** 0.5, 1e-9) / 224) for w, h in sides]
    levels = [min(max(math.floor(octave), 3), 5) for octave in octaves]
    assert pool.levels(boxes).tolist() == [level - 3 for level in levels]
    maps = [torch.randn(2, 3, 64 // 2**n, 64 // 2**n) for n in range(3)]
    per_image = [boxes[::2], boxes[1::2]]
    found = pool(maps, per_image)
    at = 0
    for image, own in enumerate(per_image):
        for box in own:
            level = pool.levels(box[None]).item()
            [expected] = pool.pools[level](maps[level][image : image + 1], [box[None]])
            torch.testing.assert_close(found[at], expected)
            at += 1
    assert pool(maps, [boxes[:0]] * 2).shape == (0, 3, 7, 7)


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_proposal_losses_against_loops(beta):
    keys = {
        "MODEL.ANCHOR_GENERATOR.SIZES": [[20]],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0]],
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 1000,
        "MODEL.RPN.SMOOTH_L1_BETA": beta,
        "MODEL.RPN.LOSS_WEIGHT": 2.0,
        "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 3.0,
    }
    rpn = ProposalNetwork(config("torchvision", keys), channels=4, strides=[8])
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 2, 4, 5, generator=generator)
    deltas = torch.randn(1, 8, 4, 5, generator=generator)
    truth = torch.tensor([[3.0, 2.0, 24.0, 21.0], [20.0, 10.0, 33.0, 40.0]])
    targets = [{"boxes": truth}]
    _, losses = rpn([torch.zeros(1, 4, 4, 5)], [logits], [deltas], [(32, 40)], targets)
    [boxes] = rpn.anchor_generator([torch.zeros(1, 4, 4, 5)])
    ious = box_iou(truth, boxes)
    objectness = box = objects = 0.0
    for index, anchor in enumerate(boxes):
        cell, kind = divmod(index, 2)
        row, column = divmod(cell, 5)
        overlap, best = ious[:, index].max(dim=0)
        is_object = overlap >= 0.7 or bool((ious[:, index] == ious.max(dim=1).values).any())
        if not is_object and overlap >= 0.3:
            continue
        objects += is_object
        value = logits[0, kind, row, column].item()
        objectness += math.log1p(math.exp(-value if is_object else value))
        if is_object:
            found = deltas[0, 4 * kind : 4 * kind + 4, row, column].tolist()
            wanted = offsets(truth[best], anchor, (1, 1, 1, 1))
            box += sum(smooth_l1(*pair, beta) for pair in zip(found, wanted, strict=True))
    assert 2 <= objects < 20
    assert losses["loss_rpn_cls"].item() == pytest.approx(2 * objectness / 1000, rel=1e-5)
    assert losses["loss_rpn_loc"].item() == pytest.approx(6 * box / 1000, rel=1e-5)


def heads(**keys):
    """Of three classes, on a map of six channels and stride 8."""
    torch.manual_seed(0)
    fixed = {"MODEL.MASK_ON": False, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 2}
    cfg = config("torchvision", FC_HEAD | fixed, **keys)
    module = DetectorHeads(cfg, channels=6, strides=[8])
    nn.init.normal_(module.box_predictor.bbox_pred.weight, std=0.3)
    return module


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_box_losses_against_loops(beta):
    module = heads(
        MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE=1000,
        MODEL__ROI_HEADS__POSITIVE_FRACTION=0.5,
        MODEL__ROI_BOX_HEAD__SMOOTH_L1_BETA=beta,
        MODEL__ROI_BOX_HEAD__BBOX_REG_LOSS_WEIGHT=3.0,
    )
    features = [torch.randn(1, 6, 6, 8, generator=torch.Generator().manual_seed(1))]
    truth = torch.tensor([[3.0, 2.0, 24.0, 21.0], [20.0, 10.0, 33.0, 40.0]])
    classes = torch.tensor([2, 0])
    proposals = torch.tensor([[2.0, 2, 25, 20], [30, 20, 60, 44], [21, 12, 33, 38], [0, 0, 9, 9]])
    targets = [{"boxes": truth, "labels": classes + 1}]
    _, losses = module(features, [proposals], [(48, 64)], targets)
    regions = torch.cat([proposals, truth])
    logits, deltas = module.box_predictor(module.box_head(module.box_roi_pool(features, [regions])))
    cross_entropy = box = 0.0
    for index, region in enumerate(regions):
        overlap, best = box_iou(truth, region[None])[:, 0].max(dim=0)
        label = classes[best].item() if overlap >= 0.5 else 3  # the background comes last
        values = [math.exp(value) for value in logits[index].tolist()]
        cross_entropy -= math.log(values[label] / sum(values))
        if label < 3:
            wanted = offsets(truth[best], region, (10, 10, 5, 5))
            found = deltas[index, label].tolist()
            box += sum(smooth_l1(*pair, beta) for pair in zip(found, wanted, strict=True))
    assert losses["loss_cls"].item() == pytest.approx(cross_entropy / 6, rel=1e-5)
    assert losses["loss_box_reg"].item() == pytest.approx(3 * box / 6, rel=1e-5)


def test_detections_by_hand():
    module = heads(MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.2, TEST__DETECTIONS_PER_IMAGE=3)
    proposals = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 70, 70], [5, 5, 20, 20]])
    chances = torch.tensor(
        [
            [0.70, 0.05, 0.05, 0.20],
            [0.50, 0.30, 0.00, 0.20],  # class 0: overlaps the better one above; class 1 stays
            [0.00, 0.00, 0.90, 0.10],
            [0.05, 0.05, 0.00, 0.90],  # background
        ]
    )
    moves = torch.zeros(4, 3, 4)
    moves[2, 2, 0] = 1.0  # a tenth of its width to the right, then clipped
    [found] = module.postprocess_detections(chances.log(), moves, [proposals], [(48, 64)])
    assert found["classes"].tolist() == [2, 0, 1]
    torch.testing.assert_close(found["scores"], torch.tensor([0.9, 0.7, 0.3]))
    expected = torch.tensor([[34.0, 30, 64, 48], [0, 0, 10, 10], [0, 0, 10, 9]])
    torch.testing.assert_close(found["boxes"], expected)


def test_training_masks_against_their_definition():
    mask = torch.zeros(1, 20, 30, dtype=torch.bool)
    mask[0, 4:12, 6:18] = True
    boxes = torch.tensor([[6.0, 4.0, 18.0, 12.0], [0.0, 4.0, 12.0, 12.0]])
    own, left = region_masks(mask, torch.zeros(2, 1, dtype=torch.int64), boxes, 4)
    assert own.all()
    assert left.tolist() == [[False, False, True, True]] * 4


def test_drawn_masks_against_loops():
    def interpolated(mask, box, row, column):
        """Bilinear between the cells' centers, with zeros around."""
        x1, y1, x2, y2 = box
        x = (column + 0.5 - x1) / (x2 - x1) * len(mask) - 0.5
        y = (row + 0.5 - y1) / (y2 - y1) * len(mask) - 0.5
        total = 0.0
        for i, cells in enumerate(mask):
            for j, value in enumerate(cells):
                total += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) * value
        return total

    masks = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    masks[0] = 0.99
    boxes = torch.tensor([[3.2, 4.1, 17.7, 15.0], [0.0, 0.0, 30.0, 20.0], [24.4, 11, 30.0, 20.0]])
    drawn = draw_masks(masks, boxes, (20, 30))
    for mask, box, found in zip(masks.tolist(), boxes.tolist(), drawn, strict=True):
        expected = [[interpolated(mask, box, r, c) >= 0.5 for c in range(30)] for r in range(20)]
        assert found.tolist() == expected
        assert found.any()
    assert draw_masks(torch.zeros(0, 4, 4), torch.zeros(0, 4), (20, 30)).shape == (0, 20, 30)


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


# --- training -----------------------------------------------------------------------------------


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
