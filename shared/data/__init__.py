"""Data sets by name: the frames they consist of, and what is known about each."""

from shared.data.cityscapes import CITYSCAPES_THINGS, FOG_BETAS, read_instance_ids
from shared.data.coco import coco_detection
from shared.data.detection import DETECTION, load_detection
from shared.data.folders import IMAGE_SUFFIXES, Place, data_root
from shared.data.kitti import KITTI_CLASSES
from shared.data.own_detection import resolve_detection
from shared.data.own_label_space import resolve_label_space
from shared.data.own_segmentation import resolve_segmentation
from shared.data.records import (
    Annotation,
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
)
from shared.data.segmentation import (
    GTA5_INVALID,
    SEGMENTATION,
    bdd100k_layout,
    cityscapes_layout,
    gta5_layout,
    image_folder,
    load_segmentation,
    synthia_layout,
    synthia_seqs_layout,
)
from shared.data.voc import SIM10K_CLASSES, VOC_CLASSES, WATERCOLOR_CLASSES

__all__ = [
    "CITYSCAPES_THINGS",
    "DETECTION",
    "FOG_BETAS",
    "GTA5_INVALID",
    "IMAGE_SUFFIXES",
    "KITTI_CLASSES",
    "SEGMENTATION",
    "SIM10K_CLASSES",
    "VOC_CLASSES",
    "WATERCOLOR_CLASSES",
    "Annotation",
    "DetectionDataset",
    "DetectionRecord",
    "Place",
    "SegmentationDataset",
    "SegmentationRecord",
    "bdd100k_layout",
    "cityscapes_layout",
    "coco_detection",
    "data_root",
    "gta5_layout",
    "image_folder",
    "load_detection",
    "load_segmentation",
    "read_instance_ids",
    "resolve_detection",
    "resolve_label_space",
    "resolve_segmentation",
    "synthia_layout",
    "synthia_seqs_layout",
]
