"""SAPNet on Detectron2 with networks of a few channels."""

import math
import shutil

import pytest
import torch
from torch import nn

pytest.importorskip("detectron2", reason="needs Detectron2")

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import cfgs, make_layers

from det_adapt import train_net
from det_adapt.config import check
from det_adapt.detectron2_engine import VGG16, Trainer, build_optimizer, defaults, load_weights
from det_adapt.structures import Sample
from det_adapt.weights import fill_detector, from_imagenet, to_detectron2
from shared.cli import call
from shared.config import load_config
from shared.errors import MissingFileError, UserError
from shared.run.folder import write_config

pytestmark = pytest.mark.detectron2

TINY = [
    *("MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "SAPRCNN", "INPUT.FORMAT", "RGB"),
    *("MODEL.PIXEL_MEAN", "[123.7, 116.3, 103.5]", "MODEL.PIXEL_STD", "[58.4, 57.1, 57.4]"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[12, 24]]", "MODEL.ROI_HEADS.NUM_CLASSES", "8"),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "64", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "20", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "8", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    *("SAP.ENABLED", "True", "SAP.EMBED_CHANNELS", "32", "SAP.LEVELS", "[1, 2, 3]"),
    *("SOLVER.OPTIMIZER", "ADAM", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "(3,)", "DATALOADER.NUM_WORKERS", "0", "SEED", "5"),
    *("INPUT.MIN_SIZE_TRAIN", "(64, 80)", "INPUT.MAX_SIZE_TRAIN", "200"),
]
RESNET = [
    *("MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.STRIDE_IN_1X1", "False"),
    *("MODEL.RESNETS.OUT_FEATURES", "[res2, res4]", "SAP.LOWER.FEATURE", "res2"),
    *("SAP.LOWER.LEVELS", "[3, 5, 7]"),
]
VGG = [
    *("MODEL.BACKBONE.NAME", "build_vgg16_backbone", "MODEL.VGG.WIDTH", "0.0625"),
    *("MODEL.RPN.IN_FEATURES", "[conv5]", "MODEL.ROI_HEADS.IN_FEATURES", "[conv5]"),
    *("MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"),
    *("MODEL.ROI_BOX_HEAD.NUM_FC", "2", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"),
]
MASKS = ["MODEL.MASK_ON", "True"]


def config(*overrides):
    cfg = load_config(defaults(), None, [*TINY, *overrides])
    check(cfg, defaults())
    return cfg


def build(*overrides):
    torch.manual_seed(0)
    return build_model(config(*overrides))


def sample(seed, size=(64, 96), labelled=True, masks=True):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    if not labelled:
        return Sample(image, str(seed), *size)
    boxes = torch.tensor([[4.0, 6, 30, 40], [20, 10, 60, 50]])
    shapes = torch.zeros(2, *size, dtype=torch.bool)
    shapes[0, 6:40, 4:30], shapes[1, 12:50, 20:60] = True, True
    return Sample(image, str(seed), *size, boxes, torch.tensor([0, 5]), shapes if masks else None)


def step(model, source, target):
    with EventStorage() as storage:
        torch.manual_seed(0)
        losses = model((model.inputs(source), target and model.inputs(target)))
    return losses, storage.latest()


# --- model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [RESNET, VGG], ids=["resnet", "vgg"])
def test_a_training_step_reaches_every_trained_parameter(backbone):
    model = build(*backbone, *MASKS)
    sources = [sample(0), sample(1, (80, 64))]
    targets = [sample(2, (48, 96), False), sample(3, (64, 64), False)]
    losses, logged = step(model, sources, targets)
    names = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask", "loss_sap"}
    assert set(losses) == names | ({"loss_sap_lower"} if backbone is RESNET else set())
    assert all(loss.isfinite() for loss in losses.values())
    assert 0 <= logged["accuracy/domain"][0] <= 1
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def gradients(model, *, of):
    """Of the adversarial loss alone, in the parameters whose names begin with `of`."""
    model.zero_grad()
    losses, _ = step(model, [sample(0)], [sample(1, labelled=False)])
    losses["loss_sap"].backward()
    return {
        n: p.grad.clone()
        for n, p in model.named_parameters()
        if n.startswith(of) and p.grad is not None
    }


def test_only_the_detector_feels_the_scale_of_the_reversal():
    once, minus = build(*VGG), build(*VGG, "SAP.GRL_SCALE", "2.0")
    backbone, doubled = (gradients(m, of=("backbone", "proposal")) for m in (once, minus))
    assert any(name.startswith("proposal_generator") for name in backbone)
    for name in backbone:
        torch.testing.assert_close(doubled[name], 2 * backbone[name])
    pyramid, same = (gradients(m, of="sap") for m in (once, minus))
    for name in pyramid:
        torch.testing.assert_close(same[name], pyramid[name])


def test_a_step_of_the_detector_against_the_gradient_raises_the_domain_loss():
    """The reversed sign: descending what the optimizer sees makes the domains harder to tell."""
    model = build(*VGG)
    before = step(model, [sample(0)], [sample(1, labelled=False)])[0]["loss_sap"].item()
    found = gradients(model, of=("backbone", "proposal"))
    with torch.no_grad():
        scale = 1e-2 / math.sqrt(sum(g.square().sum().item() for g in found.values()))
        for name, parameter in model.named_parameters():
            if name in found:
                parameter -= scale * found[name]
    after = step(model, [sample(0)], [sample(1, labelled=False)])[0]["loss_sap"].item()
    assert after > before


def identical(ours, theirs):
    pairs = zip([*ours.features, *ours.logits], [*theirs.features, *theirs.logits], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@torch.no_grad()
def test_garbage_in_the_padded_area_of_the_features_changes_nothing():
    model = build(*VGG)
    samples = [sample(0, (64, 96), False), sample(1, (48, 70), False)]

    def maps(garbage):
        def fill_padding(module, inputs, outputs):
            outputs["conv5"][1, :, 3:] = garbage
            outputs["conv5"][1, :, :, 4:] = garbage

        handle = model.backbone.register_forward_hook(fill_padding)
        try:
            return model.target(samples)
        finally:
            handle.remove()

    zeros, noise = maps(0.0), maps(1e6)
    assert [tuple(f.shape[-2:]) for f in zeros.features] == [(4, 6), (3, 4)]
    assert identical(zeros, noise)


@torch.no_grad()
@pytest.mark.parametrize("backbone", [RESNET, VGG], ids=["resnet", "vgg"])
@pytest.mark.parametrize("size", [(64, 96), (67, 90), (81, 111)])
def test_maps_are_as_large_as_those_of_the_image_alone(backbone, size):
    model = build(*backbone).eval()
    alone = model.target([sample(0, size, False)])
    together = model.target([sample(0, size, False), sample(1, (96, 128), False)])
    assert alone.features[0].shape == together.features[0].shape
    assert alone.logits[0].shape == together.logits[0].shape
    assert alone.logits[0].shape[1] == model.anchors
    assert alone.features[0].shape[1] == model.feature_channels
    if backbone is RESNET:
        assert alone.lower[0].shape == together.lower[0].shape
        assert alone.lower[0].shape[1] == model.lower_channels


@torch.no_grad()
def test_source_maps_are_those_of_the_target_path():
    """The same images: what the RPN said within its losses is what its head says alone."""
    model = build(*VGG)
    with EventStorage():
        _, maps = model.source([sample(0), sample(1, (48, 70))])
    expected = model.target([sample(0), sample(1, (48, 70))])
    assert identical(maps, expected)


def test_target_annotations_are_never_read():
    model = build(*VGG)
    plain = step(model, [sample(0)], [sample(1, labelled=False)])[0]
    poisoned = step(model, [sample(0)], [sample(1)])[0]
    assert {n: v.item() for n, v in plain.items()} == {n: v.item() for n, v in poisoned.items()}


def test_the_source_alone_is_detectron2s_own_detector():
    model = build(*VGG, "SAP.ENABLED", "False")
    losses, _ = step(model, [sample(0, masks=False)], None)
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert not any(name.startswith("sap") for name, _ in model.named_parameters())
    torch.manual_seed(0)
    plain = build_model(
        config(*VGG, "SAP.ENABLED", "False", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
    )
    plain.load_state_dict(model.state_dict())
    with EventStorage():
        torch.manual_seed(0)
        expected = plain(model.inputs([sample(0, masks=False)]))
    assert {n: v.item() for n, v in losses.items()} == {n: v.item() for n, v in expected.items()}


@torch.no_grad()
@pytest.mark.parametrize("masks", [False, True])
def test_detections_are_in_pixels_of_the_file(masks):
    model = build(*VGG, "MODEL.MASK_ON", str(masks)).eval()
    seen = sample(0, (64, 96), False)
    (found,) = model.detect([Sample(seen.image, "a", height=128, width=192)])
    (same,) = model.detect([seen])
    assert len(found) == len(same) > 0
    torch.testing.assert_close(found.boxes, 2 * same.boxes)
    assert (found.scores.diff() <= 0).all()
    assert found.classes.dtype == torch.int64
    if masks:
        assert found.masks.shape == (len(found), 128, 192)
        assert found.masks.dtype == torch.bool
    else:
        assert found.masks is None


@torch.no_grad()
def test_channels_are_in_the_order_of_the_weights():
    rgb, bgr = build(*VGG), build(*VGG, "INPUT.FORMAT", "BGR")
    entry = sample(0, labelled=False)
    assert torch.equal(rgb.inputs([entry])[0]["image"], entry.image)
    assert torch.equal(bgr.inputs([entry])[0]["image"], entry.image[[2, 1, 0]])


def test_a_lower_map_that_the_backbone_lacks_is_named():
    with pytest.raises(UserError, match=r"SAP.LOWER.FEATURE is 'res2', .* conv3, conv4, conv5"):
        build(*VGG, "SAP.LOWER.FEATURE", "res2")


# --- weights -------------------------------------------------------------------------------------


@torch.no_grad()
def test_vgg_is_torchvisions():
    theirs = nn.ModuleDict(
        {"features": make_layers([v if v == "M" else v // 16 for v in cfgs["D"]])}
    )
    ours = nn.ModuleDict({"backbone": VGG16(width=1 / 16, freeze_at=2)})
    report = fill_detector(ours, to_detectron2(from_imagenet(theirs.state_dict())), "theirs")
    assert len(report.matched) == 26
    assert report.missing == report.unexpected == []
    images = torch.randn(1, 3, 37, 50)
    expected = theirs["features"][:-1](images)
    torch.testing.assert_close(ours["backbone"](images)["conv5"], expected)
    assert expected.shape[-2:] == (2, 3)
    trained = {n.split(".")[0] for n, p in ours["backbone"].named_parameters() if p.requires_grad}
    assert trained == {"conv3", "conv4", "conv5"}


@torch.no_grad()
def test_resnet_is_torchvisions():
    """An eighth of ResNet-50's channels."""
    torch.manual_seed(0)
    width = ["MODEL.RESNETS.STEM_OUT_CHANNELS", "64", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256"]
    model = build(*RESNET, *width, "MODEL.RESNETS.WIDTH_PER_GROUP", "8").eval()
    theirs = ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=8).eval()
    report = fill_detector(model, to_detectron2(from_imagenet(theirs.state_dict())), "theirs")
    assert not report.unexpected and not report.misshapen
    assert {name.split(".")[0] for name in report.missing} == {
        *("proposal_generator", "roi_heads", "sap")
    }
    assert all("res5" not in name for name in report.missing)
    images = torch.randn(1, 3, 40, 50)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    x = theirs.layer3(theirs.layer2(theirs.layer1(x)))
    torch.testing.assert_close(model.backbone(images)["res4"], x)
    torch.testing.assert_close(model.roi_heads.res5(x), theirs.layer4(x))


def test_weights_are_refused_as_with_torchvision(tmp_path):
    with pytest.raises(UserError, match=r"does not fit MODEL\.BACKBONE"):
        fill_detector(build(*VGG), {"backbone.res2.weight": torch.ones(1)}, "a file")
    path = tmp_path / "weights.pth"
    wanted = ["MODEL.WEIGHTS", str(path)]
    for stored in ([1], {"epoch": 3}):
        torch.save(stored, path)
        with pytest.raises(UserError, match="holds no tensors by name"):
            load_weights(build(*VGG), config(*VGG, *wanted))
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, path)
    for key, value in (("INPUT.FORMAT", "BGR"), ("MODEL.RESNETS.STRIDE_IN_1X1", "True")):
        with pytest.raises(UserError, match=key):
            load_weights(build(*RESNET), config(*RESNET, *wanted, key, value))
    torch.save({"state_dict": build(*VGG).state_dict()}, path)
    report = load_weights(build(*VGG), config(*VGG, *wanted))
    assert not report.missing and not report.misshapen and not report.unexpected


# --- training ------------------------------------------------------------------------------------


def settings(root, output, *overrides):
    return config(
        *VGG,
        *("DATASETS.ROOT", str(root), "DATASETS.TRAIN", "('toy_cityscapes_det_train',)"),
        *("DATASETS.TARGET", "('toy_cityscapes_det_val',)", "OUTPUT_DIR", str(output)),
        *("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.BASE_LR", "1e-3"),
        *overrides,
    )


def train(cfg, *, resume=False):
    """What a run logged; its log is ours, without Detectron2's writers."""
    trainer, logs = Trainer(cfg), []
    trainer.resume() if resume else trainer.load_weights()
    trainer.train(logs.append)
    assert trainer.iteration == cfg.SOLVER.MAX_ITER
    return logs


@pytest.fixture(scope="module")
def trained(toy_root, tmp_path_factory):
    """A run of four iterations, and what it logged."""
    output = tmp_path_factory.mktemp("trained")
    return output, train(settings(toy_root, output))


def weights(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)["model"]


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_training_logs_losses_accuracy_and_rate_and_writes_checkpoints(trained):
    output, logs = trained
    assert len(logs) == 4
    losses = {f"loss/{name}" for name in ("rpn_cls", "rpn_loc", "cls", "box_reg", "sap")}
    assert all(set(entry) == losses | {"accuracy/domain", "lr/model"} for entry in logs)
    assert all(math.isfinite(value) for entry in logs for value in entry.values())
    assert [entry["lr/model"] for entry in logs] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])
    names = {path.name for path in output.iterdir()}
    assert names == {*("model_0000001.pth", "model_0000003.pth", "model_final.pth")} | {
        "last_checkpoint"
    }
    assert not equal(weights(output), weights(output, "model_0000001.pth"))


def test_a_resumed_run_equals_the_uninterrupted_one(trained, toy_root, tmp_path):
    with pytest.raises(MissingFileError, match="no checkpoint of Detectron2"):
        Trainer(settings(toy_root, tmp_path)).resume()
    shutil.copy(trained[0] / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    assert train(settings(toy_root, tmp_path), resume=True) == trained[1][2:]
    assert equal(weights(tmp_path), weights(trained[0]))


def test_poisoned_target_labels_give_bit_identical_training(trained, toy_root, tmp_path):
    shutil.copytree(toy_root / "toy", tmp_path / "toy")
    labels = list((tmp_path / "toy/cityscapes/gtFine/val").rglob("*.*"))
    assert labels
    for path in labels:
        path.write_text("poison")
    train(settings(tmp_path, tmp_path / "run"))
    assert equal(weights(tmp_path / "run"), weights(trained[0]))


def test_adaptation_starts_from_the_source_stages_checkpoint(trained, toy_root, tmp_path, caplog):
    first = settings(toy_root, tmp_path / "1", "SAP.ENABLED", "False", "SOLVER.MAX_ITER", "1")
    train(first)
    checkpoint = str(tmp_path / "1" / "model_final.pth")
    second = settings(toy_root, tmp_path / "2", "MODEL.WEIGHTS", checkpoint, "SOLVER.BASE_LR", "0.")
    caplog.set_level("INFO")
    train(second)
    assert "missing (new layers): sap.upper.*" in caplog.text
    detector = weights(tmp_path / "1")
    adapted = weights(tmp_path / "2")
    assert all(torch.equal(adapted[name], tensor) for name, tensor in detector.items())


def test_the_pyramid_has_a_rate_of_its_own_and_sgd_its_momentum():
    cfg = config(*VGG, "SAP.LR_MULT", "10.0", "SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", "0.01")
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[parameter] == pytest.approx(0.1 if name.startswith("sap.") else 0.01)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.slow
def test_two_processes_equal_one(toy_root, tmp_path):
    """Every anchor and every proposal counts, so that what is drawn makes no difference."""
    everything = [
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2", "SOLVER.OPTIMIZER", "SGD"),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "4000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
        *("MODEL.RPN.NMS_THRESH", "1.0", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False"),
        *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "20", "MODEL.ROI_HEADS.POSITIVE_FRACTION", "1.0"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)"),
    ]
    write_config(tmp_path, settings(toy_root, "./output", *everything), defaults())
    command = ["--engine", "detectron2", "--config-file", str(tmp_path / "config.yaml")]
    for name, processes in (("one", "1"), ("two", "2")):
        output = ["MODEL.WEIGHTS", "", "OUTPUT_DIR", str(tmp_path / name)]
        assert call(train_net.main, [*command, "--num-gpus", processes, *output]) == 0
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_what_cannot_be_trained_is_named(toy_root, tmp_path):
    for overrides, message in (
        (["SOLVER.AMP.ENABLED", "True"], "AMP"),
        (["MODEL.DEVICE", "gpu"], "MODEL.DEVICE is 'gpu', expected cuda or cpu"),
        (["MODEL.BACKBONE.NAME", "build_vgg"], "cannot build .*build_vgg"),
        (["MODEL.RPN.IN_FEATURES", "[res9]"], "cannot build .*res9"),
        (["SOLVER.WARMUP_METHOD", "steep", "SOLVER.WARMUP_ITERS", "2"], "cannot build .*steep"),
    ):
        with pytest.raises(UserError, match=message):
            Trainer(settings(toy_root, tmp_path, *overrides))


# --- catalogs ------------------------------------------------------------------------------------


def test_detectron2_knows_every_data_set_by_name(toy_root, monkeypatch):
    from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts

    from shared.data.catalog import DETECTION, load_detection

    monkeypatch.setenv("DETECTRON2_DATASETS", str(toy_root))
    assert set(DETECTION) <= set(DatasetCatalog.list())
    name = "toy_cityscapes_det_train"
    expected = load_detection(name, toy_root, labelled=True)
    found = DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).thing_classes == list(expected.classes)
    assert [entry["image_id"] for entry in found] == [record.name for record in expected.records]
    pairs = [
        (thing, annotation)
        for entry, record in zip(found, expected.records, strict=True)
        for thing, annotation in zip(entry["annotations"], record.annotations, strict=True)
    ]
    assert pairs
    for thing, annotation in pairs:
        assert thing["bbox"] == list(annotation.box)
        assert expected.classes[thing["category_id"]] == annotation.category
        assert thing["iscrowd"] == int(annotation.crowd)
    # Detectron2's own reading accepts them, and finds nothing to train on in crowds.
    usable = [e for e in found if any(not thing["iscrowd"] for thing in e["annotations"])]
    assert len(get_detection_dataset_dicts(name, filter_empty=True)) == len(usable)


def test_a_data_set_without_annotations_has_none_in_detectron2_either(toy_root):
    from det_adapt.detectron2_engine import to_dicts
    from shared.data.catalog import load_detection

    entries = to_dicts(load_detection("toy_cityscapes_det_train", toy_root))
    assert entries and all("annotations" not in entry for entry in entries)
