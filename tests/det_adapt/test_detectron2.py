"""What only Detectron2's engine has: optimizers, checkpoints, catalogs and errors of its own."""

import os
import signal
from functools import partial

import pytest
import torch
from commands import comparable
from networks import ADVERSARY, C4, FPN, ONE, TWO, VGG16, build, config, recording, unlabeled
from torch import nn

pytest.importorskip("detectron2", reason="needs Detectron2")

from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.vgg import cfgs, make_layers

from det_adapt import train_net
from det_adapt.detectron2_engine import SAPRCNN, Trainer, backbone, build_optimizer
from det_adapt.engines import engine_config
from det_adapt.predict import Predictor
from det_adapt.run import Run
from det_adapt.sap_plan import SapPlan
from det_adapt.weight_names import from_torchvision, to_detectron2
from det_adapt.weights import fill_detector
from shared.cli import call
from shared.config import CONFIGS
from shared.errors import UserError
from shared.sap import SapOptions

pytestmark = pytest.mark.detectron2

RESNET = C4 | {
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.BACKBONE.FREEZE_AT": 0,
}


def losses_of(model, pair):
    """As Detectron2's trainers call it, under one seed of the samplers, and what it recorded."""
    torch.manual_seed(0)
    with recording("detectron2") as storage:
        losses = model(pair)
    return {name: loss.item() for name, loss in losses.items()}, storage.latest()


# --- model ---------------------------------------------------------------------------------------


def test_a_pair_gives_the_losses_of_its_parts_and_records_the_accuracy():
    model = build("detectron2", VGG16 | ADVERSARY)
    target = [unlabeled(TWO)]
    losses, recorded = losses_of(model, (model.inputs([ONE]), model.inputs(target)))
    torch.manual_seed(0)
    with recording("detectron2"):
        expected, maps = model.source([ONE])
    adversarial, others = model.sap(maps, model.target(target))
    assert losses == {n: loss.item() for n, loss in (expected | adversarial).items()}
    assert all(recorded[name][0] == value.item() for name, value in others.items())


def test_the_source_alone_is_detectron2s_own_detector():
    model = build("detectron2", VGG16)
    plain = build("detectron2", VGG16, MODEL__META_ARCHITECTURE="GeneralizedRCNN")
    assert not any(name.startswith("sap") for name, _ in model.named_parameters())
    plain.load_state_dict(model.state_dict())
    inputs = model.inputs([ONE])
    assert losses_of(model, (inputs, None))[0] == losses_of(plain, inputs)[0]


def test_channels_are_in_the_order_of_the_weights():
    rgb, bgr = build("detectron2", VGG16), build("detectron2", VGG16, INPUT__FORMAT="BGR")
    assert torch.equal(rgb.inputs([ONE])[0]["image"], ONE.image)
    assert torch.equal(bgr.inputs([ONE])[0]["image"], ONE.image[[2, 1, 0]])


def test_a_lower_map_that_the_backbone_lacks_is_named():
    with pytest.raises(UserError, match=r"SAP.LOWER.FEATURE is 'res2', .* conv3, conv4, conv5"):
        build("detectron2", VGG16 | ADVERSARY, SAP__LOWER__FEATURE="res2")


def test_built_by_hand_a_feature_pyramid_needs_the_choice_of_maps():
    parts = build("detectron2", FPN)
    built = partial(
        SAPRCNN,
        **{name: getattr(parts, name) for name in ("backbone", "proposal_generator", "roi_heads")},
        pixel_mean=[103.53, 116.28, 123.675],
        pixel_std=[1.0, 1.0, 1.0],
    )
    options = SapOptions(levels=(1, 3), embed_channels=8, guide_channels=8)
    with pytest.raises(UserError, match=r"the RPN reads p2, p3, p4, p5, p6: choose .*SapPlan"):
        built(plan=SapPlan(options))
    model = built(plan=SapPlan(options, features=["p3", "p4"])).train()
    losses, _ = losses_of(model, (model.inputs([ONE]), model.inputs([unlabeled(TWO)])))
    assert {"loss_sap_p3", "loss_sap_p4"} < losses.keys()


# --- weights -------------------------------------------------------------------------------------


@torch.no_grad()
def test_vgg_is_torchvisions():
    theirs = nn.ModuleDict(
        {"features": make_layers([v if v == "M" else v // 16 for v in cfgs["D"]])}
    )
    ours = nn.ModuleDict({"backbone": backbone.VGG16(width=1 / 16, freeze_at=2)})
    report = fill_detector(ours, to_detectron2(from_torchvision(theirs.state_dict())), "theirs")
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
    widths = {"STEM_OUT_CHANNELS": 64, "RES2_OUT_CHANNELS": 256, "WIDTH_PER_GROUP": 8}
    keys = {f"MODEL.RESNETS.{name}": value for name, value in widths.items()}
    model = build("detectron2", RESNET | ADVERSARY | keys).eval()
    theirs = ResNet(Bottleneck, [3, 4, 6, 3], width_per_group=8).eval()
    report = fill_detector(model, to_detectron2(from_torchvision(theirs.state_dict())), "theirs")
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


# --- training ------------------------------------------------------------------------------------


def settings(root, output, *overrides):
    own = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(output), "MODEL.WEIGHTS", ""]
    data = [
        *("DATASETS.TRAIN", "[toy_cityscapes_det_train]", "DATALOADER.NUM_WORKERS", "0"),
        *("DATASETS.TARGET", "[toy_cityscapes_det_val]", "INPUT.MIN_SIZE_TRAIN", "[32]"),
        *("SAP.LEVELS", "[1, 3, 6]", "SAP.EMBED_CHANNELS", "8", "SOLVER.STEPS", "[]"),
        *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "SOLVER.IMS_PER_BATCH", "2"),
    ]
    return [*own, *data, *overrides]


def test_checkpoints_have_detectron2s_names_and_nothing_is_logged_beside_ours(toy_root, tmp_path):
    short = ["SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "2"]
    cfg = engine_config(
        "detectron2", CONFIGS / "sapnet_toy.yaml", settings(toy_root, tmp_path, *short)
    )
    trainer = Trainer(cfg)
    trainer.train(lambda logs: trainer.iteration == 2 and trainer.save())
    trainer.save()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model_0000001.pth", "model_final.pth", "last_checkpoint"}
    # Nothing beside the checkpoint is needed, whichever engine predicts.
    for engine in ("detectron2", "torchvision"):
        predictor = Predictor.from_checkpoint(tmp_path / "model_0000001.pth", engine=engine)
        assert predictor.classes == tuple(cfg.DATASETS.CLASSES)


def test_a_run_that_goes_on_has_the_rates_of_its_config(toy_root, tmp_path):
    def train(iterations, rate, resume=False):
        keys = ["SOLVER.MAX_ITER", str(iterations), "SOLVER.BASE_LR", str(rate)]
        own = settings(toy_root, tmp_path, *keys, "SOLVER.WARMUP_ITERS", "0")
        trainer, rates = Trainer(engine_config("detectron2", CONFIGS / "sapnet_toy.yaml", own)), []
        if resume:
            trainer.resume()
        trainer.train(lambda logs: rates.append(logs["lr/model"]))
        trainer.save()
        return rates

    assert train(2, 1e-4) == pytest.approx([1e-4, 1e-4])
    assert train(4, 1e-6, resume=True) == pytest.approx([1e-6, 1e-6])


def test_a_signal_ends_after_its_iteration_which_is_saved(toy_root, tmp_path, monkeypatch):
    command = ["--engine", "detectron2", "--config-file", str(CONFIGS / "sapnet_toy.yaml")]
    short = ["SOLVER.MAX_ITER", "3", "DATASETS.TEST", "[]", "LOG_PERIOD", "3"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"

    def kill_at_2(self):
        if self.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(Run, "on_step", kill_at_2)
        call(train_net.main, [*command, *settings(toy_root, parts, *short)])
    assert ended.value.code == 128 + signal.SIGTERM
    assert (parts / "model_0000001.pth").is_file()
    assert call(train_net.main, [*command, "--resume", *settings(toy_root, parts, *short)]) == 0
    assert call(train_net.main, [*command, *settings(toy_root, whole, *short)]) == 0
    ours, theirs = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (parts, whole)
    )
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert comparable(parts) == comparable(whole) != []


def test_the_pyramid_has_a_rate_of_its_own_and_sgd_its_momentum():
    solver = {"SOLVER.OPTIMIZER": "SGD", "SOLVER.BASE_LR": 0.01, "SAP.LR_MULT": 10.0}
    model = build("detectron2", VGG16 | ADVERSARY)
    optimizer = build_optimizer(config("detectron2", VGG16 | ADVERSARY | solver), model)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[parameter] == pytest.approx(0.1 if name.startswith("sap.") else 0.01)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["sapnet_toy", "sapnet_toy_fpn", "da_faster_toy"])
def test_two_processes_equal_one(toy_root, tmp_path, experiment):
    """Every anchor and every proposal counts, so that what is drawn makes no difference."""
    everything = [
        # Of two images alone, BatchNorm is ill-conditioned: it divides by what rounding left.
        *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "4"),
        *("SOLVER.OPTIMIZER", "SGD", "SOLVER.ACCUMULATE", "2"),
        *("DA_FASTER.DROPOUT", "0.0"),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "4000", "MODEL.RPN.POSITIVE_FRACTION", "1.0"),
        *("MODEL.RPN.NMS_THRESH", "1.0", "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "False"),
        *(
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
            "200",
            "MODEL.ROI_HEADS.POSITIVE_FRACTION",
            "1.0",
        ),
        *("DATASETS.TEST", "[]", "SAP.EMBED_NORM", "bn", "SAP.Z_NORM", "bn"),
    ]
    weights = []
    for processes in ("1", "2"):
        folder = tmp_path / processes
        command = ["--engine", "detectron2", "--config-file", str(CONFIGS / f"{experiment}.yaml")]
        overrides = settings(toy_root, folder, *everything)
        assert call(train_net.main, [*command, "--num-gpus", processes, *overrides]) == 0
        weights.append(torch.load(folder / "model_final.pth", weights_only=True)["model"])
    one, two = weights
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


def test_what_detectron2_cannot_build_is_named():
    for keys, message in (
        ({"MODEL.BACKBONE.NAME": "build_vgg"}, "cannot build .*build_vgg"),
        ({"MODEL.RPN.IN_FEATURES": ["res9"]}, "cannot build .*res9"),
    ):
        with pytest.raises(UserError, match=message):
            build("detectron2", VGG16 | keys)
    steep = {"SOLVER.WARMUP_METHOD": "steep", "SOLVER.WARMUP_ITERS": 2}
    with pytest.raises(UserError, match=r"cannot build .*steep"):
        Trainer(config("detectron2", VGG16 | steep))
