"""Detectors of a few channels, which either engine builds from the same keys, and images."""

from contextlib import nullcontext

import pytest
import torch

from det_adapt.adversaries import adversarial_losses
from det_adapt.config import check
from det_adapt.engines import engine_defaults
from det_adapt.structures import Sample

ENGINES = ["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)]
COMMON = {
    "MODEL.DEVICE": "cpu",
    "MODEL.META_ARCHITECTURE": "SAPRCNN",
    "MODEL.MASK_ON": True,
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[24, 48, 96]],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 200,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 150,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 40,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.ROI_HEADS.NUM_CLASSES": 3,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 24,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.001,
    "INPUT.FORMAT": "RGB",
    "TEST.DETECTIONS_PER_IMAGE": 20,
}
FC_HEAD = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
}
VGG16 = FC_HEAD | {
    "MODEL.BACKBONE.NAME": "build_vgg16_backbone",
    "MODEL.VGG.WIDTH": 0.125,
    "MODEL.RPN.IN_FEATURES": ["conv5"],
    "MODEL.RPN.SMOOTH_L1_BETA": 0.1,
    "MODEL.ROI_HEADS.IN_FEATURES": ["conv5"],
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
    "SAP.LOWER.FEATURE": "conv3",
}
C4 = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res4"],
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
    "SAP.LOWER.FEATURE": "res2",
}
RESNET18 = C4 | {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
}
RESNET18_STRIDE_8 = (
    RESNET18
    | FC_HEAD
    | {
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3"],
        "MODEL.RPN.IN_FEATURES": ["res3"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["res3"],
    }
)
FPN = FC_HEAD | {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 16,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[16], [24], [48], [96], [128]],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 2,
    "SAP.FEATURES": ["p3", "p5"],
}
FPN_GN = FPN | {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 32,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.FPN.NORM": "GN",
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[24, 48, 96]],
    "MODEL.RPN.IN_FEATURES": ["p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4", "p5"],
}
RELEASED = {  # as SAPNet's released code has it
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 1,
    "MODEL.RPN.BOUNDARY_THRESH": 0,
    "MODEL.RPN.CONV_DIMS": [24],
    "MODEL.RPN.SMOOTH_L1_BETA": 1 / 9,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
}
TIMM = FPN | {
    "MODEL.BACKBONE.NAME": "build_timm_fpn_backbone",
    "MODEL.TIMM.NAME": "tf_efficientnet_lite0",
    "MODEL.FPN.IN_FEATURES": ["level2", "level3", "level4"],
    "MODEL.ANCHOR_GENERATOR.SIZES": [[24], [48], [96], [128]],
    "MODEL.RPN.IN_FEATURES": ["p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p3", "p4", "p5"],
}
ADVERSARY = {
    "SAP.ENABLED": True,
    "SAP.LEVELS": [1, 2, 3],
    "SAP.LOWER.LEVELS": [3, 5, 7],
    "SAP.EMBED_CHANNELS": 32,
}

DA_FASTER = {
    "DA_FASTER.ENABLED": True,
    "DA_FASTER.REGIONS": 8,
    "DA_FASTER.IMAGE_CHANNELS": 8,
    "DA_FASTER.INSTANCE_CHANNELS": 12,
    "DA_FASTER.DROPOUT": 0.0,
}


def config(engine, keys, **more):
    """`COMMON` with other `keys`; in `more`, names have `__` for dots."""
    tree = engine_defaults(engine)
    cfg = tree.clone()
    pairs = COMMON | keys | {name.replace("__", "."): value for name, value in more.items()}
    cfg.merge_from_list([item for pair in pairs.items() for item in pair])
    check(cfg, tree)
    return cfg


def build(engine, keys, **more):
    """The same weights at every call."""
    torch.manual_seed(0)
    if engine == "torchvision":
        from det_adapt.torchvision_engine import build_detector
    else:
        from det_adapt.detectron2_engine import build_detector
    return build_detector(config(engine, keys, **more))


def recording(engine):
    """Where the scalars go that Detectron2's heads write in training."""
    if engine == "torchvision":
        return nullcontext()
    from detectron2.utils.events import EventStorage

    return EventStorage()


def sample(name, size, boxes, classes, seed, file_size=None):
    """A noise image with ellipses for masks."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    image = torch.randint(0, 256, (3, height // 8 + 1, width // 8 + 1), generator=generator)
    image = image.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        across = (2 * columns + 1 - x1 - x2) / (x2 - x1)
        down = (2 * rows + 1 - y1 - y2) / (y2 - y1)
        mask[:] = across**2 + down**2 <= 1
    file_height, file_width = file_size or size
    return Sample(
        image.to(torch.uint8),
        name,
        file_height,
        file_width,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.int64),
        masks,
    )


def unlabeled(sample):
    return Sample(sample.image, sample.name, sample.height, sample.width)


ONE = sample("one", (121, 175), [(8, 20, 60, 90.5), (50, 30, 170, 110)], [2, 0], 1, (242, 321))
TWO = sample("two", (140, 150), [(20.25, 10, 44, 44)], [1], 2)
EMPTY = sample("empty", (121, 175), [], [], 3)


def losses_of(engine, detector, sources, targets):
    """Of a training step with every adversary, under one seed of the samplers."""
    torch.manual_seed(0)
    with recording(engine):
        losses, maps = detector.train().source(sources)
    others, _ = adversarial_losses(detector.adversaries, maps, detector.target(targets), 0)
    return losses | others
