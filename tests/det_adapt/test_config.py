import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from det_adapt.config import (
    DETECTION_LEVELS,
    INSTALL_DETECTRON2,
    check,
    check_torchvision,
    defaults,
    seed,
)
from det_adapt.detectron2_keys import KEYS, WITHOUT_EFFECT
from det_adapt.engines import choose_engine, engine_config, engine_defaults
from det_adapt.sap_plan import sap_plan
from shared.config import flatten, load_config, plain
from shared.errors import UserError
from shared.run.folder import write_config

SAP_ON = ["MODEL.META_ARCHITECTURE", "SAPRCNN", "SAP.ENABLED", "True"]


def load(*overrides):
    return load_config(defaults(), None, overrides)


def refused(engine, *overrides):
    """The message for overrides of a usable config."""
    with pytest.raises(UserError) as error:
        engine_config(engine, None, ["MODEL.META_ARCHITECTURE", "SAPRCNN", *overrides])
    return str(error.value)


def test_defaults_are_usable_and_source_only():
    cfg = load()
    check(cfg, defaults())
    check_torchvision(cfg)
    assert sap_plan(cfg) is None


@pytest.mark.detectron2
def test_keys_and_defaults_are_detectron2s():
    from detectron2.config import get_cfg

    theirs = flatten(get_cfg())
    assert {key: theirs[key] for key in KEYS} == KEYS
    assert all(type(value) is type(theirs[key]) for key, value in KEYS.items())
    for beginning in WITHOUT_EFFECT:
        assert any(key.startswith(beginning) for key in theirs), beginning
        assert not any(key.startswith(beginning) for key in KEYS)


@pytest.mark.detectron2
def test_both_engines_read_the_same_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "VERSION: 2\nMODEL: {META_ARCHITECTURE: SAPRCNN, RPN: {NMS_THRESH: 0.6}}\n"
        "SAP: {ENABLED: true, LEVELS: [3, 7], LOWER: {FEATURE: res2}}\n"
        "SOLVER: {OPTIMIZER: ADAM, BASE_LR: 1e-5, STEPS: [70, 80]}\n"
        "DATASETS: {TRAIN: [sim10k], TARGET: [cityscapes_det_train]}\n"
    )
    overrides = ["INPUT.MIN_SIZE_TRAIN", "(600,)"]
    ours = engine_config("torchvision", path, overrides)
    theirs = engine_config("detectron2", path, overrides)
    assert flatten(ours).items() <= flatten(theirs).items()
    # The config.yaml of a Detectron2 run is a file for either engine.
    written = tmp_path / "config.yaml"
    write_config(tmp_path, theirs, engine_defaults("detectron2"))
    for engine, expected in (("torchvision", ours), ("detectron2", theirs)):
        again = engine_config(engine, written, [])
        assert plain(list(flatten(again).items())) == plain(list(flatten(expected).items()))


def test_sap_defaults_are_the_papers_for_detection():
    plan = sap_plan(load(*SAP_ON, "SAP.LOWER.FEATURE", "res2"))
    assert plan.upper.levels == DETECTION_LEVELS
    assert DETECTION_LEVELS == (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35, 37)
    assert plan.upper.guide_channels == 0
    assert plan.lower.levels == (3, 9, 15, 21, 27, 33, 37)
    assert sap_plan(load(*SAP_ON)).lower is None


def test_seed_is_never_negative():
    assert (seed(load()), seed(load("SEED", "7"))) == (0, 7)


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"SAP\.LEVLES.*did you mean 'SAP\.LEVELS'"):
        load("SAP.LEVLES", "[3]")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.KEYPOINT_ON", "True"),
        ("MODEL.FPN.FUSE_TYPE", "avg"),
        ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR"),
    ],
)
def test_a_key_that_needs_detectron2_is_named(key, value):
    message = refused("torchvision", key, value)
    assert key in message and "--engine detectron2" in message and INSTALL_DETECTRON2 in message


@pytest.mark.parametrize(
    "engine", ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)]
)
def test_a_key_without_effect_is_refused(engine):
    message = refused(engine, "INPUT.CROP.ENABLED", "True")
    assert "INPUT.CROP.ENABLED" in message and "images are read and drawn here" in message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["INPUT.FORMAT", "GBR"], "INPUT.FORMAT is 'GBR', expected one of BGR, RGB"),
        (["INPUT.MIN_SIZE_TRAIN", "(600.5,)"], r"INPUT\.MIN_SIZE_TRAIN"),
        (
            ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.MIN_SIZE_TRAIN", "(5,)"],
            "low and high",
        ),
        (["SOLVER.OPTIMIZER", "RMSPROP"], "SOLVER.OPTIMIZER"),
        (["SOLVER.BETAS", "[0.9]"], "SOLVER.BETAS is .* expected a list of 2 numbers"),
        (["SOLVER.BETAS", "[0.9, 1.5]"], "expected 0 <= beta < 1"),
        (["SOLVER.STEPS", "[300, 100]"], "SOLVER.STEPS"),
        (["MODEL.PIXEL_MEAN", "[1, 2]"], "MODEL.PIXEL_MEAN"),
        (["MODEL.RPN.IOU_THRESHOLDS", "[0.5]"], "MODEL.RPN.IOU_THRESHOLDS"),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[[a]]"], "MODEL.ANCHOR_GENERATOR.SIZES"),
        (["MODEL.ANCHOR_GENERATOR.SIZES", "[]"], "MODEL.ANCHOR_GENERATOR.SIZES"),
        (["DATASETS.TRAIN", "[1]"], "DATASETS.TRAIN is .* expected a list of names"),
        (["SOLVER.IMS_PER_BATCH", "0"], "SOLVER.IMS_PER_BATCH"),
        (["MODEL.BACKBONE.FREEZE_AT", "-1"], "MODEL.BACKBONE.FREEZE_AT is -1, expected 0 to 5"),
        (["MODEL.ROI_BOX_HEAD.DROPOUT", "1.0"], "DROPOUT is 1.0, expected 0 <= p < 1"),
        (["MODEL.ROI_BOX_HEAD.DROPOUT", "0.5"], "StandardROIHeads .* set it to 0"),
        (["SAP.ENABLED", "True"], "SAPRCNN"),
        (["SAP.LOSS_WEIGHT", "-1"], "SAP.LOSS_WEIGHT"),
        ([*SAP_ON, "MODEL.RPN.IN_FEATURES", "[p2, p3]"], r"reads p2, p3: choose .* SAP.FEATURES"),
    ],
)
def test_an_unusable_value_is_named(overrides, message):
    with pytest.raises(UserError, match=message):
        check(load(*overrides), defaults())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.RESNETS.NORM", "LN"),
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        ("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignRotated"),
    ],
)
def test_a_part_that_the_torchvision_engine_lacks_is_named(key, value):
    with pytest.raises(UserError, match=f"{key} is '{value}', .* torchvision"):
        check_torchvision(load(key, value))


def test_the_rpn_has_one_width_with_the_torchvision_engine():
    for widths in ("[64, 64]", "[0]", "[]", "[a]"):
        with pytest.raises(UserError, match=r"MODEL.RPN.CONV_DIMS is .* expected one width"):
            check_torchvision(load("MODEL.RPN.CONV_DIMS", widths))


def test_lambda_follows_half_a_cosine_that_counts_from_one():
    decay = ["SAP.LOSS_END", "0.1", "SOLVER.MAX_ITER", "4"]
    plan = sap_plan(load(*SAP_ON, *decay))
    cosines = [math.cos(math.pi * step / 4) for step in (1, 2, 3, 4)]
    expected = [0.1 + 0.45 * (1 + cosine) for cosine in cosines]
    assert [plan.weight_share(iteration) for iteration in range(4)] == pytest.approx(expected)
    assert plan.weight_share(3) == 0.1
    assert {sap_plan(load(*SAP_ON)).weight_share(iteration) for iteration in (0, 7)} == {1.0}


def test_the_lower_pyramid_has_kernels_of_its_own():
    kernels = ["SAP.EMBED_KERNEL", "3", "SAP.LOWER.FEATURE", "res2"]
    plan = sap_plan(load(*SAP_ON, *kernels))
    assert (plan.lower.embed_kernel, plan.lower.guide_kernel) == (3, 3)
    own = ["SAP.LOWER.EMBED_KERNEL", "1", "SAP.LOWER.GUIDE_KERNEL", "1"]
    plan = sap_plan(load(*SAP_ON, *kernels, *own))
    assert (plan.upper.embed_kernel, plan.upper.guide_kernel) == (3, 3)
    assert (plan.lower.embed_kernel, plan.lower.guide_kernel) == (1, 1)


def test_the_engine_is_chosen(monkeypatch):
    assert choose_engine("torchvision") == "torchvision"
    with pytest.raises(UserError, match="--engine pytorch, expected one of auto"):
        choose_engine("pytorch")
    monkeypatch.setattr("sys.path", [])  # nothing can be found
    monkeypatch.delitem(sys.modules, "detectron2", raising=False)
    assert choose_engine("auto") == "torchvision"
    with pytest.raises(UserError, match="not installed") as error:
        choose_engine("detectron2")
    assert INSTALL_DETECTRON2 in str(error.value)


def imported(statement, **environment):
    """What a fresh Python says of a statement with `det_adapt`; it must succeed."""
    command = [sys.executable, "-c", statement]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr


def test_the_import_needs_no_detectron2(tmp_path):
    without = "import sys; sys.modules['detectron2'] = None; import det_adapt; "
    cheap = "assert 'torch' not in sys.modules; det_adapt.add_sap_config"
    assert imported(without + cheap) == ""
    (tmp_path / "detectron2.py").write_text("raise ImportError('no _C')")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    broken = imported("import det_adapt.torchvision_engine", PYTHONPATH=path)
    assert "Detectron2 cannot be imported" in broken and "no _C" in broken


@pytest.mark.detectron2
def test_the_import_registers_with_detectron2():
    imported(
        "import det_adapt\n"
        "from detectron2.data import DatasetCatalog\n"
        "from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY\n"
        "assert 'SAPRCNN' in META_ARCH_REGISTRY and 'sim10k' in DatasetCatalog\n"
        "assert 'build_vgg16_backbone' in BACKBONE_REGISTRY"
    )


@pytest.mark.detectron2
def test_detectron2_is_taken_where_it_is():
    assert choose_engine("auto") == choose_engine("detectron2") == "detectron2"


def test_every_key_of_ours_is_explained():
    lines = Path(__file__).parents[2].joinpath("det_adapt/config.py").read_text().splitlines()
    declared = [line for line in lines if line.startswith("    cfg.") and "node()" not in line]
    assert len(declared) > 8
    assert all("  # " in line for line in declared)
