"""MODEL.WEIGHTS into a detector of either engine."""

import pickle
from importlib import import_module

import pytest
import torch
from networks import ENGINES, FPN, FPN_GN, RESNET18, VGG16, build, config
from torch import nn
from torchvision import models
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.vgg import cfgs, make_layers

from det_adapt.torchvision_engine import SapRCNN, load_weights
from det_adapt.weight_names import from_detectron2, from_torchvision, to_detectron2
from shared.errors import UserError
from shared.weights import COUNTER


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


@pytest.mark.parametrize(
    "keys", [RESNET18, VGG16, FPN, FPN_GN], ids=["resnet18", "vgg16", "fpn", "fpn_gn"]
)
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


def test_detectron2s_model_zoo_needs_no_detectron2(tmp_path, monkeypatch):
    expected = build("torchvision", FPN).state_dict()
    arrays = {name: tensor.numpy() for name, tensor in to_detectron2(expected).items()}
    anchors = {"proposal_generator.anchor_generator.cell_anchors.0": arrays.popitem()[1]}
    # Numpy's modules had other names when these files were written.
    stored = pickle.dumps({"model": arrays | anchors, "__author__": "x"}, protocol=2)
    (tmp_path / "zoo").mkdir()
    file = tmp_path / "zoo" / "model.pkl"
    file.write_bytes(stored.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    detector = build("torchvision", FPN)
    for weights in (str(file), file.as_uri(), file.as_uri()):
        torch.nn.init.zeros_(detector.rpn.head.cls_logits.weight)
        cfg = config("torchvision", FPN, MODEL__WEIGHTS=weights)
        report = load_weights(detector, cfg)
        assert len(report.missing) == 1 and not report.unexpected and not report.misshapen
        assert len(report.matched) == len(expected) - 1
        assert torch.equal(
            detector.rpn.head.cls_logits.weight, expected["rpn.head.cls_logits.weight"]
        )
    assert (tmp_path / "hub/checkpoints/model.pkl").read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match=r"cannot get none.pkl .* put it at .*none.pkl"):
        load_weights(
            detector, config("torchvision", FPN, MODEL__WEIGHTS=(tmp_path / "none.pkl").as_uri())
        )


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    file = tmp_path / "model.pkl"
    for stored in ({"model": {"a": print}}, {"weights": {}}, [1]):
        file.write_bytes(pickle.dumps(stored))
        with pytest.raises(UserError, match="is no file of Detectron2's model zoo"):
            load_weights(
                build("torchvision", VGG16), config("torchvision", VGG16, MODEL__WEIGHTS=str(file))
            )


TORCHVISION_FPN = {
    **FPN,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 256,
}


@torch.no_grad()
def test_torchvisions_own_mask_rcnn_is_read_whole_and_gives_the_same(engine, load):
    """Of a feature pyramid, with its class 0, the background, moved to the end."""
    torch.manual_seed(3)
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4).eval()
    state = {n: x for n, x in theirs.state_dict().items() if not n.endswith(COUNTER)}
    for name, tensor in state.items():
        if ".bn" in name or "downsample.1" in name:
            tensor.uniform_(0.2, 0.6)
    # The names of the files that torchvision published.
    old = {}
    for name, tensor in state.items():
        name = name.replace("blocks.0.0.", "blocks.0.").replace(
            "rpn.head.conv.0.0.", "rpn.head.conv."
        )
        for number in range(4):
            name = name.replace(f"mask_head.{number}.0.", f"mask_head.mask_fcn{number + 1}.")
        old[name] = tensor
    assert len(set(old) - set(state)) == 2 * 2 + 2 + 4 * 2
    for stored in (old, state):
        ours = build(engine, TORCHVISION_FPN)
        report = load(stored, ours, TORCHVISION_FPN)
        assert not report.missing and not report.misshapen and not report.unexpected
        assert len(report.matched) == len(ours.state_dict())
        if engine == "torchvision":
            norms = (m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d))
            for norm in norms:
                norm.eps = 0.0 if stored is old else 1e-5  # as torchvision has it
            assert_same_outputs(ours.eval(), theirs)


def assert_same_outputs(ours, theirs):
    images = torch.randn(2, 3, 96, 128)
    maps, expected = ours.backbone(images), theirs.backbone(images)
    for name, their in zip(maps, expected.values(), strict=True):
        assert_close(maps[name], their)
    for own, their in zip(
        ours.rpn.head(list(maps.values())), theirs.rpn.head(list(expected.values())), strict=True
    ):
        for pair in zip(own, their, strict=True):
            assert_close(*pair)
    regions = torch.randn(5, 256, 7, 7)
    heads, own_heads = theirs.roi_heads, ours.roi_heads
    scores, offsets = heads.box_predictor(heads.box_head(regions))
    own_scores, own_offsets = own_heads.box_predictor(own_heads.box_head(regions))
    assert_close(own_scores, scores.roll(-1, dims=1))
    assert_close(own_offsets.flatten(1), offsets[:, 4:])
    masks = heads.mask_predictor(heads.mask_head(regions))
    assert_close(own_heads.mask_head(regions), masks[:, 1:])


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


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
        ("resnet50", TORCHVISION_FPN),
    ],
)
def test_torchvisions_imagenet_weights_fit(name, keys):
    with torch.device("meta"):  # names and shapes only
        classifier = getattr(models, name)(weights=None).state_dict()
        detector = SapRCNN(config("torchvision", FULL_SIZE | keys))
    own = {name: tensor.shape for name, tensor in detector.state_dict().items()}
    renamed = {
        name: tensor.shape
        for name, tensor in from_torchvision(
            classifier, pyramid="MODEL.FPN.OUT_CHANNELS" in keys
        ).items()
        if not name.endswith("num_batches_tracked")
    }
    assert all(own[name] == shape for name, shape in renamed.items())
    fresh = ("rpn.head.", "roi_heads.box_predictor.", "backbone.fpn.")
    if "MODEL.FPN.OUT_CHANNELS" in keys:
        fresh += ("roi_heads.",)
    assert all(name.startswith(fresh) for name in set(own) - set(renamed))
