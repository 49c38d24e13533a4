"""How many frames the authors of a data set published; `datasets/README.md` names the sources."""

from shared.catalog import FOG_BETAS, GTA5_INVALID

# (data set, split) → frames.
SEGMENTATION_FRAMES = {
    ("gta5", "train"): 24_966 - len(GTA5_INVALID),
    ("synthia", "train"): 9_400,
    ("cityscapes", "train"): 2_975,
    ("cityscapes", "val"): 500,
    ("bdd100k", "train"): 7_000,
    ("bdd100k", "val"): 1_000,
}

# Detection data set → frames.
DETECTION_FRAMES = {
    "sim10k": 10_000,
    "kitti_train": 7_481,
    "voc2007_trainval": 5_011,
    "voc2007_test": 4_952,
    "voc2012_trainval": 11_540,
    "voc0712_trainval": 5_011 + 11_540,
    "clipart_train": 500,
    "clipart_test": 500,
    "clipart_traintest": 1_000,
    "watercolor_train": 1_000,
    "watercolor_test": 1_000,
}
for _split, _frames in (("train", 2_975), ("val", 500)):
    for _boxes in ("", "_polygons"):
        DETECTION_FRAMES[f"cityscapes_det_{_split}{_boxes}"] = _frames
        DETECTION_FRAMES[f"foggy_cityscapes_{_split}{_boxes}"] = _frames
    for _beta in FOG_BETAS:
        DETECTION_FRAMES[f"foggy_cityscapes_{_split}_beta_{_beta}"] = _frames
    DETECTION_FRAMES[f"foggy_cityscapes_{_split}_beta_all"] = _frames * len(FOG_BETAS)
