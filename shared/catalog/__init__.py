"""Data sets by name: the frames they consist of, and what is known about each."""

from shared.catalog.cityscapes_instances import CITYSCAPES_THINGS, FOG_BETAS, read_instance_ids
from shared.catalog.detection import DETECTION, load_detection
from shared.catalog.kitti import KITTI_CLASSES
from shared.catalog.places import IMAGE_SUFFIXES, Place, data_root
from shared.catalog.records import (
    Annotation,
    DetectionDataset,
    DetectionRecord,
    SegmentationDataset,
    SegmentationRecord,
)
from shared.catalog.segmentation import (
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
from shared.catalog.voc_xml import SIM10K_CLASSES, VOC_CLASSES, WATERCOLOR_CLASSES

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
    "data_root",
    "gta5_layout",
    "image_folder",
    "load_detection",
    "load_segmentation",
    "read_instance_ids",
    "synthia_layout",
    "synthia_seqs_layout",
]
