"""What a detector of either engine owes the rest."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import (
    ADVERSARY,
    EMPTY,
    ENGINES,
    FPN_GN,
    ONE,
    RELEASED,
    RESNET18,
    RESNET18_STRIDE_8,
    TIMM,
    TWO,
    VGG16,
    build,
    losses_of,
    recording,
    sample,
    unlabeled,
)

from det_adapt.structures import Sample
from shared.errors import UserError


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


MODELS = {
    "vgg16": VGG16,
    "resnet18": RESNET18,
    "resnet18_stride_8": RESNET18_STRIDE_8,
    "resnet18_fpn": FPN_GN,
    "timm_fpn": TIMM,
}


@pytest.fixture(params=MODELS)
def detector(engine, request):
    return build(engine, MODELS[request.param] | ADVERSARY)


def test_every_trained_parameter_gets_a_gradient_and_frozen_ones_none(engine, detector):
    losses = losses_of(engine, detector, [ONE, TWO], [unlabeled(TWO), unlabeled(EMPTY)])
    task = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask"}
    several = "p3" in detector.sap.pooled
    endings = ("_p3", "_p5") if several else ("", "_lower")
    assert set(losses) == task | {f"loss_sap{ending}" for ending in endings}
    assert all(loss.dim() == 0 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    constant = ("conv1", "conv2", "body.level0.", "body.level1.", "bottom_up.level0.")
    constant += ("bottom_up.level1.",)
    for name, parameter in detector.named_parameters():
        frozen = name.removeprefix("backbone.").startswith(constant)
        assert parameter.requires_grad != frozen, name
        assert frozen or 0 < parameter.grad.abs().sum() < math.inf, name


RELEASED_ADVERSARY = ADVERSARY | {
    "SAP.EMBED_KERNEL": 3,
    "SAP.EMBED_NORM": "bn",
    "SAP.EMBED_DROPOUT": 0.5,
    "SAP.ALIGN_CORNERS": True,
    "SAP.Z_NORM": "bn",
    "SAP.LOSS_END": 0.1,
    "SAP.LOWER.EMBED_KERNEL": 1,
    "SAP.LOWER.GUIDE_KERNEL": 1,
}


def test_the_released_recipe_trains_everything(engine):
    """Images of two sizes in a batch, whose statistics z's BatchNorm has."""
    released = VGG16 | RELEASED | RELEASED_ADVERSARY | {"MODEL.ROI_BOX_HEAD.DROPOUT": 0.5}
    detector = build(engine, released)
    sources, targets = [ONE, TWO, EMPTY], [unlabeled(TWO), unlabeled(ONE), unlabeled(EMPTY)]
    losses = losses_of(engine, detector, sources, targets)
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        frozen = name.startswith(("backbone.conv1", "backbone.conv2"))
        assert frozen or 0 < parameter.grad.abs().sum() < math.inf, name
    with pytest.raises(UserError, match=r"raise SOLVER.IMS_PER_BATCH"):
        losses_of(engine, detector, [ONE], targets)


@torch.no_grad()
def test_maps_are_as_large_as_those_of_the_image_alone(detector):
    sizes = [(70, 101), (64, 96), (79, 81), (33, 112)]
    samples = [sample("", size, [], [], seed) for seed, size in enumerate(sizes)]
    together = detector.target(samples)
    for index, each in enumerate(samples):
        alone = detector.target([each])
        for maps, own in zip(flat(together), flat(alone), strict=True):
            assert maps[index].shape == own[0].shape
        for pooled in detector.sap.pooled.values():
            lower = pooled.features != pooled.guide
            channels = detector.lower_channels if lower else detector.feature_channels
            assert alone.features[pooled.features][0].shape[1] == channels
            assert alone.logits[pooled.guide][0].shape[1] == detector.anchors


def flat(maps):
    """Per map of the features and of the logits: its tensors of every image."""
    return [*maps.features.values(), *maps.logits.values()]


def equal_maps(ours, theirs):
    return all(
        torch.equal(*pair)
        for own, other in zip(flat(ours), flat(theirs), strict=True)
        for pair in zip(own, other, strict=True)
    )


@torch.no_grad()
def test_garbage_in_the_padding_changes_no_map(detector):
    samples = [unlabeled(ONE), sample("", (40, 64), [], [], 1)]
    clean = detector.target(samples)

    def spoil(module, inputs, stages):
        for name, maps in clean.features.items():
            rows, columns = maps[1].shape[2:]
            assert (stages[name].shape[2], stages[name].shape[3]) > (rows, columns)
            stages[name][1, :, rows:] = math.nan
            stages[name][1, :, :, columns:] = math.nan

    detector.backbone.register_forward_hook(spoil)
    assert equal_maps(clean, detector.target(samples))


@pytest.mark.parametrize("samples", [[ONE], [ONE, TWO]], ids=["one", "padded"])
def test_both_domains_have_the_same_maps(engine, detector, samples):
    with recording(engine):
        _, source = detector.train().source(samples)
    assert equal_maps(source, detector.target([unlabeled(each) for each in samples]))


def test_annotations_of_the_target_are_never_read(engine, detector):
    plain = losses_of(engine, detector, [ONE], [unlabeled(TWO)])
    same = losses_of(engine, detector, [ONE], [TWO])
    assert {n: v.item() for n, v in plain.items()} == {n: v.item() for n, v in same.items()}


def test_image_without_objects(engine, detector):
    losses = losses_of(engine, detector, [EMPTY], [unlabeled(ONE)])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_rpn_loc"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert losses["loss_rpn_cls"] > 0 and losses["loss_cls"] > 0
    sum(losses.values()).backward()


@torch.no_grad()
@pytest.mark.parametrize("masks", [False, True])
def test_detections_are_in_pixels_of_the_file_and_sorted(engine, masks):
    detector = build(engine, VGG16, MODEL__MASK_ON=masks, MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.0)
    [found] = detector.eval().detect([unlabeled(ONE)])
    [same] = detector.detect([Sample(ONE.image, "", 121, 175)])
    assert len(found) == len(same) > 5
    scale = torch.tensor([321 / 175, 2, 321 / 175, 2])
    torch.testing.assert_close(found.boxes, same.boxes * scale)
    assert (found.scores.diff() <= 0).all()
    assert (
        found.classes.dtype == torch.int64 and 0 <= found.classes.min() <= found.classes.max() < 3
    )
    if masks:
        assert found.masks.shape == (len(found), 242, 321) and found.masks.dtype == torch.bool
    else:
        assert found.masks is None


def test_dropout_is_between_the_fully_connected_layers_and_in_training_alone(engine):
    dropping = build(engine, VGG16, MODEL__ROI_BOX_HEAD__DROPOUT=0.25)
    plain = build(engine, VGG16)
    assert dropping.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(dropping.state_dict())
    head, regions = dropping.roi_heads.box_head, torch.randn(5, 64, 7, 7)
    torch.manual_seed(0)
    found = head.train()(regions)
    torch.manual_seed(0)
    hidden = F.dropout(head.fc1(regions.flatten(1)).relu(), 0.25)
    torch.testing.assert_close(found, head.fc2(hidden).relu())
    assert (hidden == 0).float().mean() > 0.5  # the ReLU's half and a quarter of the rest
    assert torch.equal(head.eval()(regions), plain.roi_heads.box_head.train()(regions))


def adversarial_gradients(engine, detector, beginnings):
    """Of the adversarial loss alone, in the parameters whose names begin so."""
    detector.zero_grad()
    losses_of(engine, detector, [ONE], [unlabeled(TWO)])["loss_sap"].backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in detector.named_parameters()
        if name.startswith(beginnings) and parameter.grad is not None
    }


DETECTOR = ("backbone", "rpn", "proposal_generator")


def test_only_the_detector_feels_the_scale_of_the_reversal(engine):
    once = build(engine, VGG16 | ADVERSARY)
    twice = build(engine, VGG16 | ADVERSARY, SAP__GRL_SCALE=2.0)
    for beginnings, factor in ((DETECTOR, 2), ("sap", 1)):
        single, double = (adversarial_gradients(engine, d, beginnings) for d in (once, twice))
        assert beginnings == "sap" or any(".head." in n or ".rpn_head." in n for n in single)
        for name, gradient in single.items():
            torch.testing.assert_close(double[name], factor * gradient)


def test_a_step_of_the_detector_against_the_gradient_raises_the_domain_loss(engine):
    """The reversed sign: descending what the optimizer sees makes the domains harder to tell."""
    detector = build(engine, VGG16 | ADVERSARY)
    before = losses_of(engine, detector, [ONE], [unlabeled(TWO)])["loss_sap"].item()
    gradients = adversarial_gradients(engine, detector, DETECTOR)
    with torch.no_grad():
        scale = 1e-2 / math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
        for name, parameter in detector.named_parameters():
            if name in gradients:
                parameter -= scale * gradients[name]
    after = losses_of(engine, detector, [ONE], [unlabeled(TWO)])["loss_sap"].item()
    assert after > before
