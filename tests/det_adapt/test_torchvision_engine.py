"""The detector on torchvision: its formulas, padding, degenerate batches, weights and errors."""

import math

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.ops import box_iou

from det_adapt.config import defaults
from det_adapt.structures import Sample
from det_adapt.torchvision_engine import SapRCNN, load_weights
from det_adapt.torchvision_engine.masks import draw_masks, region_masks
from det_adapt.torchvision_engine.proposals import CellAnchors, ProposalNetwork
from det_adapt.torchvision_engine.roi_heads import DetectorHeads
from det_adapt.weights import fill_detector, from_detectron2, from_imagenet, to_detectron2
from shared.errors import UserError

RESNET18 = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 4,
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16, 32]],
    "SAP.LOWER.FEATURE": "res2",
    "INPUT.FORMAT": "RGB",
}
STANDARD = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
}
VGG16 = {
    **RESNET18,
    **STANDARD,
    "MODEL.BACKBONE.NAME": "build_vgg16_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.VGG.WIDTH": 0.0625,
    "MODEL.RPN.IN_FEATURES": ["conv5"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["conv5"],
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "SAP.LOWER.FEATURE": "conv3",
}
STRIDE_8 = {
    **RESNET18,
    **STANDARD,
    "MODEL.RPN.IN_FEATURES": ["res3"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["res3"],
}
SHAPES = {"resnet18": RESNET18, "vgg16": VGG16, "resnet18_stride8": STRIDE_8}


def config(keys=RESNET18, **more):
    cfg = defaults()
    pairs = keys | {name.replace("__", "."): value for name, value in more.items()}
    cfg.merge_from_list([item for pair in pairs.items() for item in pair])
    return cfg


def build(keys=RESNET18, **more):
    torch.manual_seed(0)
    return SapRCNN(config(keys, **more))


@pytest.fixture(params=SHAPES)
def detector(request):
    return build(SHAPES[request.param], MODEL__MASK_ON=True)


def sample(height=70, width=101, boxes=((10, 8, 40, 44), (30, 20, 90, 64)), seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    classes = torch.arange(len(boxes)) % 3
    return Sample(image, f"image {seed}", 2 * height, 3 * width, boxes, classes, masks)


def finite(losses):
    return all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())


def test_every_trained_parameter_gets_a_gradient_and_frozen_ones_none(detector):
    losses, maps = detector.train().source([sample(), sample(64, 80, seed=1)])
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    assert finite(losses)
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        frozen = name.startswith(("backbone.conv1", "backbone.conv2"))
        assert parameter.requires_grad != frozen, name
        assert frozen or parameter.grad.abs().sum() > 0, name
    assert all(each.requires_grad for each in (*maps.features, *maps.logits, *maps.lower))


def test_maps_are_as_large_as_those_of_the_image_alone(detector):
    sizes = [(70, 101), (64, 96), (79, 81), (33, 112)]
    samples = [sample(*size, seed=seed) for seed, size in enumerate(sizes)]
    together = detector.train().target(samples)
    for index, each in enumerate(samples):
        alone = detector.target([each])
        for maps, own in zip(together, alone, strict=True):
            assert maps[index].shape == own[0].shape
        assert alone.features[0].shape[1] == detector.feature_channels
        assert alone.logits[0].shape[1] == detector.anchors
        assert alone.lower[0].shape[1] == detector.lower_channels


@torch.no_grad()
def test_garbage_in_the_padding_changes_no_map(detector):
    samples = [sample(), sample(40, 64, boxes=(), seed=1)]
    clean = detector.target(samples)

    def spoil(module, inputs, stages):
        for name, maps in ((detector.feature, clean.features), (detector.lower, clean.lower)):
            rows, columns = maps[1].shape[2:]
            assert stages[name].shape[2] > rows and stages[name].shape[3] > columns
            stages[name][1, :, rows:] = math.nan
            stages[name][1, :, :, columns:] = math.nan

    detector.backbone.register_forward_hook(spoil)
    for maps, same in zip(clean, detector.target(samples), strict=True):
        assert all(torch.equal(*pair) for pair in zip(maps, same, strict=True))


@pytest.mark.parametrize("sizes", [[(70, 101)], [(70, 101), (40, 64)]], ids=["one", "padded"])
def test_source_and_target_see_the_same_maps_and_the_target_no_annotation(detector, sizes):
    class Unreadable:
        def __getattr__(self, name):
            raise AssertionError("an annotation of the target was read")

    samples = [
        sample(*size, boxes=((10, 8, 40, 38),), seed=seed) for seed, size in enumerate(sizes)
    ]
    _, source = detector.train().source(samples)
    unreadable = [Unreadable() for _ in range(3)]
    target = detector.target([Sample(s.image, s.name, 1, 1, *unreadable) for s in samples])
    for maps, same in zip(source, target, strict=True):
        assert all(torch.equal(*pair) for pair in zip(maps, same, strict=True))


def test_image_without_objects(detector):
    losses, _ = detector.train().source([sample(boxes=())])
    assert finite(losses)
    assert losses["loss_rpn_loc"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert losses["loss_rpn_cls"] > 0 and losses["loss_cls"] > 0
    sum(losses.values()).backward()


@pytest.mark.parametrize("boxes", [(), ((10, 8, 40, 44),)])
def test_no_proposals(detector, boxes):
    one = sample(boxes=boxes)
    features = torch.randn(1, detector.feature_channels, 5, 7)
    none = [torch.zeros(0, 4)]
    target = {"boxes": one.boxes, "labels": one.classes + 1, "masks": one.masks}
    _, losses = detector.train().roi_heads(features, none, [(70, 101)], [target])
    assert finite(losses)
    sum(losses.values()).backward()
    [found], _ = detector.eval().roi_heads(features, none, [(70, 101)])
    assert [len(found[name]) for name in ("boxes", "scores", "classes", "masks")] == [0] * 4


def test_diverged_weights_give_no_detections_rather_than_an_error(detector):
    with torch.no_grad():
        detector.rpn.head.bbox_pred.bias.fill_(math.nan)
    [found] = detector.eval().detect([sample()])
    assert len(found) == 0
    assert found.masks.shape == (0, 140, 303)


def test_detections_are_in_pixels_of_the_file_and_sorted():
    detector = build(MODEL__MASK_ON=True, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0).eval()
    [found] = detector.detect([sample()])
    assert len(found) > 5
    assert found.masks.shape == (len(found), 140, 303)
    assert (found.scores.diff() <= 0).all()
    x1, y1, x2, y2 = found.boxes.T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= 303).all() and (y2 <= 140).all()
    assert x2.max() > 202 and y2.max() > 80  # beyond the network's image, were it unscaled
    assert ((found.classes >= 0) & (found.classes < 3)).all()


def test_each_image_is_detected_as_if_it_were_alone_where_sizes_agree():
    detector = build().eval()
    samples = [sample(seed=seed) for seed in range(2)]
    together = detector.detect(samples)
    for each, expected in zip(samples, together, strict=True):
        [alone] = detector.detect([each])
        torch.testing.assert_close(alone.boxes, expected.boxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(alone.scores, expected.scores, rtol=0, atol=1e-5)


def test_images_are_normalised_in_the_networks_order_and_padded_with_zero():
    keys = {"MODEL.PIXEL_MEAN": [10, 20, 30], "MODEL.PIXEL_STD": [2, 4, 5]}
    image = torch.tensor([111, 120, 130], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 6)
    samples = [Sample(image, "a", 4, 6), Sample(image[:, :3, :5], "b", 3, 5)]
    for order, expected in (("RGB", (50.5, 25.0, 20.0)), ("BGR", (60.0, 25.0, 16.2))):
        batch, sizes = build(RESNET18 | keys, INPUT__FORMAT=order).batch_images(samples)
        assert sizes == [(4, 6), (3, 5)]
        assert batch.shape == (2, 3, 4, 6)
        assert batch[0, :, 0, 0].tolist() == pytest.approx(list(expected))
        assert (
            batch[1, :, :3, :5].flatten(1).unique(dim=1)[:, 0].tolist()
            == batch[0, :, 0, 0].tolist()
        )
        assert not batch[1, :, 3:].any() and not batch[1, :, :, 5:].any()


def test_anchors_against_loops():
    anchors = CellAnchors([16, 50], [0.5, 1.0, 3.0], stride=8, offset=0.25)
    expected = []
    for row in range(3):
        for column in range(2):
            for size in (16, 50):
                for ratio in (0.5, 1.0, 3.0):
                    x, y = 8 * column + 2, 8 * row + 2
                    w, h = size / ratio**0.5, size * ratio**0.5
                    expected.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    found = anchors(torch.zeros(5, 7, 3, 2))
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
    rpn = ProposalNetwork(config(keys), channels=4, stride=8)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, 2, 4, 5, generator=generator)
    deltas = torch.randn(1, 8, 4, 5, generator=generator)
    truth = torch.tensor([[3.0, 2.0, 24.0, 21.0], [20.0, 10.0, 33.0, 40.0]])
    targets = [{"boxes": truth}]
    _, losses = rpn(torch.zeros(1, 4, 4, 5), logits, deltas, [(32, 40)], targets)
    boxes = rpn.anchor_generator(torch.zeros(1, 4, 4, 5))
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
    fixed = {"MODEL.ROI_HEADS.NUM_CLASSES": 3, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 2}
    module = DetectorHeads(config(STANDARD | fixed, **keys), channels=6, stride=8)
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
    features = torch.randn(1, 6, 6, 8, generator=torch.Generator().manual_seed(1))
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
        """Bilinear between the cells' centres, with zeros around."""
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


@pytest.mark.parametrize("keys", [RESNET18, VGG16], ids=["resnet18", "vgg16"])
def test_files_of_either_engine_fill_everything(tmp_path, keys):
    first = build(keys, MODEL__MASK_ON=True)
    path = tmp_path / "weights.pth"
    for state in (first.state_dict(), to_detectron2(first.state_dict())):
        torch.save({"model": state, "iteration": 3}, path)
        cfg = config(keys, MODEL__MASK_ON=True, MODEL__WEIGHTS=str(path))
        torch.manual_seed(1)
        second = SapRCNN(cfg)
        report = load_weights(second, cfg)
        assert set(report.matched) == set(first.state_dict())
        assert not report.missing and not report.misshapen and not report.unexpected
        loaded = second.state_dict()
        assert all(torch.equal(tensor, loaded[n]) for n, tensor in first.state_dict().items())
    names = to_detectron2(first.state_dict())
    assert set(from_detectron2(names)) == set(first.state_dict())
    assert not any("bn" in name or "downsample" in name or "mask_fcn_" in name for name in names)


def test_other_classes_are_reported_and_another_backbone_refused():
    weights = build().state_dict() | {"sap.weight": torch.zeros(1)}
    report = fill_detector(build(MODEL__ROI_HEADS__NUM_CLASSES=5), weights, "stage1.pth")
    predictor = "roi_heads.box_predictor"
    assert list(report.misshapen) == [
        f"{predictor}.{layer}.{kind}"
        for layer in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    ]
    assert report.unexpected == ["sap.weight"]
    assert f"{predictor}.*" in str(report) and "sap.weight" in str(report)
    with pytest.raises(UserError, match=r"stage1.pth.*MODEL.BACKBONE.*backbone.conv1"):
        fill_detector(build(VGG16), weights, "stage1.pth")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet50", {"MODEL.RESNETS.STRIDE_IN_1X1": False}),
        ("resnet101", {"MODEL.RESNETS.DEPTH": 101, "MODEL.RESNETS.STRIDE_IN_1X1": False}),
        (
            "vgg16",
            {
                "MODEL.BACKBONE.NAME": "build_vgg16_backbone",
                "MODEL.RPN.IN_FEATURES": ["conv5"],
                "MODEL.ROI_HEADS.IN_FEATURES": ["conv5"],
                **STANDARD,
                "MODEL.ROI_BOX_HEAD.FC_DIM": 4096,
                "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
            },
        ),
    ],
)
def test_torchvisions_imagenet_weights_fit(name, keys):
    with torch.device("meta"):  # names and shapes only
        classifier = getattr(models, name)(weights=None).state_dict()
        detector = SapRCNN(config({"INPUT.FORMAT": "RGB"} | keys))
    own = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    renamed = {
        name: tensor.shape
        for name, tensor in from_imagenet(classifier).items()
        if not name.endswith("num_batches_tracked")
    }
    assert all(own[name] == shape for name, shape in renamed.items())
    fresh = ("rpn.head.", "roi_heads.box_predictor.")
    assert all(name.startswith(fresh) for name in set(own) - set(renamed))


@pytest.mark.parametrize(
    ("key", "value"), [("INPUT__FORMAT", "BGR"), ("MODEL__RESNETS__STRIDE_IN_1X1", True)]
)
def test_torchvisions_weights_need_their_conventions(tmp_path, key, value):
    path = tmp_path / "resnet18.pth"
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, path)
    more = {"MODEL__RESNETS__DEPTH": 50, "MODEL__RESNETS__STRIDE_IN_1X1": False, key: value}
    cfg = config(MODEL__WEIGHTS=str(path), **more)
    with pytest.raises(UserError, match=key.replace("__", ".")):
        load_weights(build(), cfg)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.RESNETS.DEPTH": 20}, "MODEL.RESNETS.DEPTH is 20, expected one of 18"),
        ({"MODEL.RESNETS.STEM_OUT_CHANNELS": 24}, "multiples of 32"),
        ({"MODEL.RESNETS.DEPTH": 50, "MODEL.RESNETS.RES2_OUT_CHANNELS": 30}, "a multiple of 4"),
        ({"MODEL.RPN.IN_FEATURES": ["res3", "res4"]}, "MODEL.RPN.IN_FEATURES"),
        ({"MODEL.RPN.IN_FEATURES": ["res3"]}, "expected the same one map in both"),
        ({"MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64]]}, "2 lists of SIZES"),
        ({"MODEL.ROI_HEADS.NAME": "StandardROIHeads"}, "MODEL.ROI_BOX_HEAD.NUM_FC is 0"),
        (
            {"MODEL.RPN.IN_FEATURES": ["res3"], "MODEL.ROI_HEADS.IN_FEATURES": ["res3"]},
            "reads a map of 128 channels",
        ),
        ({"SAP.LOWER.FEATURE": "conv3"}, "SAP.LOWER.FEATURE names 'conv3', expected one of stem"),
    ],
)
def test_wrong_values_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        build(RESNET18 | keys)


def test_masks_are_asked_for_by_name():
    one = sample()
    without = Sample(one.image, "street 7", 70, 101, one.boxes, one.classes)
    with pytest.raises(UserError, match="'street 7' has no instance masks"):
        build(MODEL__MASK_ON=True).train().source([without])
