"""MODEL.WEIGHTS into a detector of either engine."""

from importlib import import_module

import pytest
import torch
from networks import ENGINES, RESNET18, VGG16, build, config
from torch import nn
from torchvision import models
from torchvision.models.vgg import cfgs, make_layers

from det_adapt.torchvision_engine import SapRCNN
from det_adapt.weights import from_detectron2, from_imagenet, to_detectron2
from shared.errors import UserError


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def load(engine, tmp_path):
    """Stores a file and loads it: `load(stored, detector, keys, **more)`."""

    def load_file(stored, detector, keys, **more):
        path = tmp_path / "weights.pth"
        torch.save(stored, path)
        cfg = config(engine, keys, MODEL__WEIGHTS=str(path), **more)
        return import_module(f"det_adapt.{engine}_engine").load_weights(detector, cfg)

    return load_file


@pytest.mark.parametrize("keys", [RESNET18, VGG16], ids=["resnet18", "vgg16"])
def test_files_of_either_engine_fill_everything(engine, load, keys):
    expected = build(engine, keys).state_dict()
    ours = from_detectron2(expected)
    for stored in (ours, to_detectron2(ours), {"state_dict": expected}):
        other = build(engine, keys)
        torch.nn.init.zeros_(next(other.parameters()))
        report = load({"model": stored, "iteration": 3}, other, keys)
        assert set(report.matched) == set(expected)
        assert not report.missing and not report.misshapen and not report.unexpected
        assert all(torch.equal(tensor, expected[n]) for n, tensor in other.state_dict().items())
    names = set(to_detectron2(ours))
    assert set(from_detectron2(dict.fromkeys(names))) == set(ours)
    assert not any("bn" in name or "downsample" in name or "mask_fcn_" in name for name in names)


def test_other_classes_are_reported_and_another_backbone_refused(engine, load):
    stored = build(engine, RESNET18).state_dict() | {"sap.weight": torch.zeros(1)}
    report = load(stored, build(engine, RESNET18, MODEL__ROI_HEADS__NUM_CLASSES=5), RESNET18)
    predictor = "roi_heads.box_predictor"
    boxes = [name for name in report.misshapen if name.startswith(predictor)]
    assert boxes == [
        f"{predictor}.{layer}.{kind}"
        for layer in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    ]
    assert all("mask" in name for name in set(report.misshapen) - set(boxes))
    assert report.unexpected == ["sap.weight"]
    assert f"{predictor}.*" in str(report) and "sap.weight" in str(report)
    with pytest.raises(UserError, match=r"weights.pth.*MODEL.BACKBONE.*backbone.conv1"):
        load(stored, build(engine, VGG16), VGG16)


@pytest.mark.parametrize("stored", [[1], {"epoch": 3}])
def test_a_file_without_tensors_is_named(engine, load, stored):
    with pytest.raises(UserError, match="holds no tensors by name"):
        load(stored, build(engine, VGG16), VGG16)


@pytest.mark.parametrize(
    ("key", "value"), [("INPUT__FORMAT", "BGR"), ("MODEL__RESNETS__STRIDE_IN_1X1", True)]
)
def test_torchvisions_weights_need_their_conventions(engine, load, key, value):
    more = {"MODEL__RESNETS__DEPTH": 50, "MODEL__RESNETS__STRIDE_IN_1X1": False, key: value}
    with pytest.raises(UserError, match=key.replace("__", ".")):
        load({"layer1.0.conv1.weight": torch.zeros(1)}, build(engine, VGG16), RESNET18, **more)


@pytest.mark.parametrize("keep", [True, False])
def test_vggs_fully_connected_layers_may_stay_at_random(engine, load, keep):
    narrow = {
        "features": make_layers([v if v == "M" else v // 8 for v in cfgs["D"]]),
        "classifier": nn.Sequential(
            nn.Linear(64 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32)
        ),
    }
    report = load(
        nn.ModuleDict(narrow).state_dict(),
        build(engine, VGG16),
        VGG16,
        MODEL__VGG__PRETRAINED_FC=keep,
    )
    fc = {f"roi_heads.box_head.fc{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}
    assert fc & set(report.matched) == (fc if keep else set())
    assert not report.unexpected and len(report.matched) == 26 + 4 * keep


FULL_SIZE = {"MODEL.MASK_ON": False, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14}
FULL_VGG16 = VGG16 | {
    "MODEL.VGG.WIDTH": 1.0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 4096,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet50", {"MODEL.RESNETS.STRIDE_IN_1X1": False}),
        ("resnet101", {"MODEL.RESNETS.DEPTH": 101, "MODEL.RESNETS.STRIDE_IN_1X1": False}),
        ("vgg16", FULL_VGG16),
    ],
)
def test_torchvisions_imagenet_weights_fit(name, keys):
    with torch.device("meta"):  # names and shapes only
        classifier = getattr(models, name)(weights=None).state_dict()
        detector = SapRCNN(config("torchvision", FULL_SIZE | keys))
    own = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    renamed = {
        name: tensor.shape
        for name, tensor in from_imagenet(classifier).items()
        if not name.endswith("num_batches_tracked")
    }
    assert all(own[name] == shape for name, shape in renamed.items())
    fresh = ("rpn.head.", "roi_heads.box_predictor.")
    assert all(name.startswith(fresh) for name in set(own) - set(renamed))
