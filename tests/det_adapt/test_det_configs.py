"""Every detection experiment loads, is complete and builds."""

from pathlib import Path

import pytest
import torch
from fvcore.common.config import CfgNode

from det_adapt import toy
from det_adapt.config import add_sap_config
from det_adapt.data.build import train_augmentation
from det_adapt.engines import engine_config
from det_adapt.sap_plan import sap_plan
from det_adapt.source_stage import source_config
from det_adapt.torchvision_engine import SapRCNN, build_optimizer
from shared.config import CONFIGS, flatten, plain
from shared.data.catalog import DETECTION

FILES = sorted(
    path
    for path in CONFIGS.glob("*.yaml")
    if "META_ARCHITECTURE" in CfgNode.load_yaml_with_base(str(path)).get("MODEL", {})
)
PAIRS = sorted(path.stem.removeprefix("sapnet_") for path in FILES if "sapnet_" in path.stem)
PAPER = {
    "foggy": (1.0, 15),
    "kitti_cityscapes": (0.2, 9),
    "cityscapes_kitti": (0.01, 9),
    "clipart": (0.1, 12),
    "watercolor": (0.01, 12),
    "sim10k": (0.1, 9),
    "foggy_masks": (1.0, 15),
}
# Cells of the pyramid's map on an image of the resized height.
VGG_ROWS, RESNET_ROWS = 600 // 16, -(-600 // 16)


def test_they_were_found_in_pairs():
    released = {f"{pair}_released" for pair in PAPER}
    fpn = {"foggy_fpn", "foggy_masks_fpn", "sim10k_fpn", "toy_fpn", "toy_efficientnet"}
    assert {*PAPER, *released, *fpn, "toy", "toy_foggy", "toy_clipart"} == set(PAIRS)
    da_faster = {path.stem for path in FILES if path.stem.startswith("da_faster")}
    assert da_faster == {"da_faster_foggy", "da_faster_sim10k", "da_faster_toy"}
    assert len(FILES) == 2 * len(PAIRS) + len(da_faster)


@pytest.mark.detectron2
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_detectron2_reads_it_as_it_is(path):
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_sap_config(cfg)
    cfg.merge_from_file(str(path))
    ours = engine_config("detectron2", path, [])
    assert plain(list(flatten(cfg).items())) == plain(list(flatten(ours).items()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_builds_and_says_what_it_is(path):
    assert path.read_text().startswith("# ")
    cfg = engine_config("torchvision", path, [])
    for name in toy.data_sets(cfg):
        assert name in DETECTION
    train_augmentation(cfg)
    # Full networks, without their memory.
    with torch.device("meta"):
        model = SapRCNN(cfg)
    build_optimizer(cfg, model)
    kind = path.stem.partition("_")[0]
    assert (model.sap is None) == (kind != "sapnet")
    assert (model.da_faster is None) == (kind != "da")
    assert max(cfg.SOLVER.STEPS) < cfg.SOLVER.MAX_ITER


@pytest.mark.detectron2
@pytest.mark.parametrize(
    ("ours", "theirs", "own"),
    [
        ("faster_rcnn_fpn", "Base-RCNN-FPN", ()),
        ("faster_rcnn_fpn_cityscapes", "Cityscapes/mask_rcnn_R_50_FPN", ("MODEL",)),
    ],
)
def test_a_feature_pyramid_has_the_model_zoos_settings(ours, theirs, own):
    import detectron2
    from detectron2.config import get_cfg

    file = Path(detectron2.__file__).parents[1] / "configs" / f"{theirs}.yaml"
    if not file.is_file():
        pytest.skip("this Detectron2 comes without its configs")
    expected, cfg = get_cfg(), get_cfg()
    expected.merge_from_file(str(file))
    add_sap_config(cfg)
    cfg.merge_from_file(str(CONFIGS / "_base_" / f"{ours}.yaml"))
    own += ("DATASETS.", "MODEL.META_ARCHITECTURE", "INPUT.MASK_FORMAT", "SEED", "TEST.EVAL_PERIOD")
    found = flatten(cfg)
    for key, value in flatten(expected).items():
        if not key.startswith(own):
            assert plain([found[key]]) == plain([value]), key
    weights = engine_config("detectron2", CONFIGS / "source_foggy_masks_fpn.yaml", []).MODEL.WEIGHTS
    zoo = Path(detectron2.__file__).parent / "model_zoo/model_zoo.py"
    assert weights.rpartition("FPN_3x/")[2] in zoo.read_text()


@pytest.mark.detectron2
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_detectron2_builds_the_same_network(path):
    from detectron2.modeling import build_model

    from det_adapt.weight_names import to_detectron2

    ours = engine_config("torchvision", path, [])
    with torch.device("meta"):
        expected = to_detectron2(SapRCNN(ours).state_dict())
    cfg = engine_config("detectron2", path, ["MODEL.DEVICE", "meta"])
    with torch.device("meta"):
        built = build_model(cfg).state_dict()
    assert {n: t.shape for n, t in built.items() if "anchor_generator" not in n} == {
        n: t.shape for n, t in expected.items()
    }


@pytest.mark.parametrize("pair", PAIRS)
def test_adaptation_continues_its_source_stage(pair):
    source = engine_config("torchvision", CONFIGS / f"source_{pair}.yaml", [])
    adapted = engine_config("torchvision", CONFIGS / f"sapnet_{pair}.yaml", [])
    assert source_config(adapted.MODEL.WEIGHTS) == CONFIGS / f"source_{pair}.yaml"
    for key in ("TRAIN", "TEST", "CLASSES"):
        assert source.DATASETS[key] == adapted.DATASETS[key]
    assert source.MODEL.ROI_HEADS == adapted.MODEL.ROI_HEADS
    assert source.INPUT == adapted.INPUT
    assert not source.SAP.ENABLED and adapted.SAP.ENABLED
    assert adapted.SOLVER.WARMUP_ITERS == 0
    if pair.endswith("_released"):
        assert source.SOLVER.WARMUP_ITERS == 500
        for key in ("MAX_ITER", "STEPS", "IMS_PER_BATCH", "BASE_LR", "WEIGHT_DECAY_NORM"):
            assert source.SOLVER[key] == adapted.SOLVER[key]


@pytest.mark.parametrize("pair", PAPER)
def test_published_settings(pair):
    cfg = engine_config("torchvision", CONFIGS / f"sapnet_{pair}.yaml", [])
    weight, anchors = PAPER[pair]
    upper = sap_plan(cfg).upper
    assert upper.loss_weight == weight
    assert upper.levels == (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35, 37)
    sizes, ratios = cfg.MODEL.ANCHOR_GENERATOR.SIZES, cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS
    assert len(sizes[0]) * len(ratios[0]) == anchors
    solver = cfg.SOLVER
    assert (solver.OPTIMIZER, solver.BASE_LR, solver.WEIGHT_DECAY) == ("ADAM", 1e-5, 1e-4)
    assert (solver.MAX_ITER, list(solver.STEPS), solver.GAMMA) == (90000, [70000, 80000], 0.1)
    # The widest window fits into the map of an image of the usual shape.
    assert max(upper.levels) <= min(VGG_ROWS, RESNET_ROWS)
    assert cfg.INPUT.MAX_SIZE_TRAIN >= 1987  # KITTI


RELEASED = {  # pair → epochs, images, epochs after which the rate falls
    "foggy": (25, 2975, (16, 22)),
    "foggy_masks": (25, 2975, (16, 22)),
    "kitti_cityscapes": (20, 6684, (16, 18)),
    "cityscapes_kitti": (20, 2975, (16, 18)),
    "sim10k": (20, 10000, (16, 18)),
    "clipart": (10, 16551, (8, 9)),
    "watercolor": (10, 16551, (8, 9)),
}


@pytest.mark.parametrize("pair", PAPER)
def test_released_settings(pair):
    cfg = engine_config("torchvision", CONFIGS / f"sapnet_{pair}_released.yaml", [])
    plan = sap_plan(cfg)
    upper, lower = plan.upper, plan.lower
    epochs, images, falls = RELEASED[pair]
    steps = -(-images // cfg.SOLVER.IMS_PER_BATCH)
    assert cfg.SOLVER.IMS_PER_BATCH == 4
    assert epochs * steps == cfg.SOLVER.MAX_ITER
    assert list(cfg.SOLVER.STEPS) == [fall * steps for fall in falls]
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY_NORM) == (1e-5, 1e-4)
    assert (upper.embed_kernel, upper.embed_norm, upper.embed_dropout) == (3, "bn", 0.5)
    assert (upper.z_norm, upper.guide_kernel, upper.align_corners) == ("bn", 3, True)
    vgg = cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone"
    assert len(upper.levels) == (7 if vgg else 13)
    assert upper.levels[-1] == (VGG_ROWS if vgg else RESNET_ROWS)
    assert upper.loss_weight == PAPER[pair][0]
    assert plan.weight_share(cfg.SOLVER.MAX_ITER - 1) == (0.1 if pair == "watercolor" else 1)
    assert (lower is None) == (pair != "watercolor")
    if lower:
        kernels = (lower.embed_kernel, lower.guide_kernel)
        assert (lower.levels[-1], kernels, lower.loss_weight) == (38, (1, 1), 0.01)
    rpn, box = cfg.MODEL.RPN, cfg.MODEL.ROI_BOX_HEAD
    assert (list(rpn.CONV_DIMS), rpn.BOUNDARY_THRESH) == ([512], 0)
    assert (rpn.SMOOTH_L1_BETA, box.SMOOTH_L1_BETA) == (1 / 9, 1)
    assert ("ROIPool" if "kitti" in pair else "ROIAlign") == box.POOLER_TYPE
    assert (box.POOLER_RESOLUTION, box.POOLER_SAMPLING_RATIO) == (7, 2)
    assert ((0.5, False) if vgg else (0.0, True)) == (box.DROPOUT, cfg.MODEL.VGG.PRETRAINED_FC)
    least = 5 if "foggy" in pair else 0
    assert cfg.DATASETS.MIN_BOX_SIZE == cfg.TEST.PAPER_MIN_BOX_SIZE == least
    assert cfg.TEST.PROTOCOL == "paper"
