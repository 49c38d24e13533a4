"""Detectors on a feature pyramid over networks of timm. Weights come from a package."""

import pytest
import timm
import torch
from networks import ENGINES, ONE, TIMM, VGG16, build, config
from timm.layers import FrozenBatchNormAct2d
from torchvision.ops import FeaturePyramidNetwork

from det_adapt.torchvision_engine import load_weights
from det_adapt.weight_names import from_detectron2, timm_names
from shared.errors import UserError
from shared.timm_networks import packaged_weights

SMALL = TIMM | {
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
}
SMALL |= {"MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3"], "MODEL.ANCHOR_GENERATOR.SIZES": [[24, 48]]}


def parts(detector):
    """The body and the number of its levels that are not trained, of either engine."""
    return getattr(detector.backbone, "body", None) or detector.backbone.bottom_up


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_050", "resnet18"]
)
@torch.no_grad()
def test_the_pyramid_is_on_timms_own_feature_maps(engine, name):
    detector = build(engine, SMALL, MODEL__TIMM__NAME=name).eval()
    theirs = timm.create_model(name, features_only=True).eval()
    own = {n: t for n, t in detector.state_dict().items() if n in timm_names([n]).values()}
    by_name = {timm_name: own[ours] for timm_name, ours in timm_names(own).items()}
    flat = {
        n.replace("stem.", "stem_").replace("stages.", "stages_"): t for n, t in by_name.items()
    }
    unlike = theirs.load_state_dict(flat if name == "convnext_atto" else by_name, strict=False)
    assert all("num_batches_tracked" in n for n in unlike.missing_keys)
    assert not unlike.unexpected_keys
    image = torch.randn(1, 3, 96, 160)
    maps = {f"p{n}": x for n, x in enumerate(theirs(image)[-4:], start=2)}
    sizes = [96 // stride for stride in (4, 8, 16, 32)]
    assert [x.shape[2] for x in maps.values()] == sizes
    pyramid = FeaturePyramidNetwork([x.shape[1] for x in maps.values()], 32)
    state = from_detectron2(detector.state_dict())
    for key, tensor in pyramid.state_dict().items():
        blocks, number, rest = key.split(".", 2)
        tensor.copy_(state[f"backbone.fpn.{blocks}.{int(number) + 2}.{rest}"])
    expected, found = pyramid(maps), detector.backbone(image)
    for level, x in expected.items():
        torch.testing.assert_close(found[level], x, rtol=1e-4, atol=1e-5 * x.abs().max().item())
    assert torch.equal(found["p6"], found["p5"][..., ::2, ::2])


@pytest.mark.parametrize("engine", ENGINES)
def test_batch_norm_and_the_first_levels_are_constant_and_pixels_timms(engine):
    detector = build(engine, TIMM, MODEL__BACKBONE__FREEZE_AT=3)
    body = parts(detector)
    norms = [m for m in body.modules() if isinstance(m, FrozenBatchNormAct2d)]
    assert len(norms) > 40 and not any(list(norm.parameters()) for norm in norms)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.modules())
    trained = {n.split(".")[0] for n, p in body.named_parameters() if p.requires_grad}
    assert trained == {"level3", "level4"}
    for values in (detector.pixel_mean, detector.pixel_std):
        assert values.flatten().tolist() == [127.5] * 3
    other = build(engine, TIMM, MODEL__TIMM__NAME="mobilenetv3_small_050")
    torch.testing.assert_close(other.pixel_std.flatten(), 255 * torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("engine", ENGINES)
def test_packaged_weights_fill_the_body(engine):
    detector = build(engine, TIMM)
    if engine == "torchvision":
        load = load_weights
    else:
        from det_adapt.detectron2_engine import load_weights as load
    report = load(detector, config(engine, TIMM, MODEL__WEIGHTS="pip:efficientnet_lite0"))
    assert len(report.matched) == 240 and not report.misshapen and not report.unexpected
    beginnings = {name.partition(".")[0] for name in report.missing}
    assert "backbone" in beginnings and all("fpn" in n for n in report.missing if "backbone" in n)
    published = packaged_weights("efficientnet_lite0")
    state = detector.state_dict()
    for name, ours in timm_names(state).items():
        assert torch.equal(state[ours], published[name])


def test_files_of_timm_and_of_ours_are_read(tmp_path):
    name = "mobilenetv3_small_050"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "timm.pth")
    detector = build("torchvision", TIMM, MODEL__TIMM__NAME=name)
    torch.save({"model": detector.state_dict()}, tmp_path / "ours.pth")
    for file, missing in (("timm.pth", True), ("ours.pth", False)):
        keys = {"MODEL.TIMM.NAME": name, "MODEL.WEIGHTS": str(tmp_path / file)}
        report = load_weights(detector, config("torchvision", TIMM | keys))
        assert bool(report.missing) == missing and len(report.matched) > 100


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.WEIGHTS": "pip:lite0"}, "available: efficientnet_lite0, efficientnet_lite1"),
        (
            {"MODEL.WEIGHTS": "pip:efficientnet_lite0", "MODEL.TIMM.NAME": "efficientnet_lite0"},
            "made for tf_efficientnet_lite0, and MODEL.TIMM.NAME is efficientnet_lite0",
        ),
        ({"MODEL.WEIGHTS": "torchvision"}, "set it to timm, pip:… or a file"),
        ({"MODEL.WEIGHTS": "nowhere.pth"}, "no weights file 'nowhere.pth'"),
    ],
)
def test_weights_of_another_network_are_named(keys, message):
    detector = build("torchvision", TIMM)
    with pytest.raises(UserError, match=message):
        load_weights(detector, config("torchvision", TIMM | keys))


@pytest.mark.parametrize("weights", ["timm", "pip:efficientnet_lite0"])
def test_weights_of_timm_need_a_network_of_timm(weights):
    cfg = config("torchvision", VGG16, MODEL__WEIGHTS=weights)
    with pytest.raises(UserError, match=r"MODEL.BACKBONE.NAME is build_vgg16_backbone: set it to"):
        load_weights(build("torchvision", VGG16), cfg)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"MODEL.TIMM.NAME": ""}, "MODEL.TIMM.NAME is empty"),
        ({"MODEL.TIMM.NAME": "resnet19"}, "did you mean 'resnet18'"),
        ({"MODEL.TIMM.NAME": "vit_tiny_patch16_224"}, "gives no maps one after another"),
        ({"INPUT.FORMAT": "BGR"}, "INPUT.FORMAT is BGR, and networks of timm were trained on RGB"),
    ],
)
def test_wrong_values_are_named(engine, keys, message):
    with pytest.raises(UserError, match=message):
        build(engine, TIMM | keys)


def test_images_of_any_size_are_detected():
    [found] = build("torchvision", TIMM).eval().detect([ONE])
    assert len(found) > 0 and found.masks.shape[1:] == (242, 321)
