"""The torchvision engine's anchors, losses and detections against their definitions."""

import math

import pytest
import torch
from networks import (
    FC_HEAD,
    FPN,
    config,
)
from torch import nn
from torchvision.ops import box_iou

from det_adapt.torchvision_engine.feature_pyramid import RegionPool
from det_adapt.torchvision_engine.masks import draw_masks, region_masks
from det_adapt.torchvision_engine.proposals import CellAnchors, ProposalNetwork
from det_adapt.torchvision_engine.roi_heads import DetectorHeads


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
