"""SAPNet on Detectron2: importing this registers backbone, meta-architecture and data sets."""

from detectron2.config import CfgNode, get_cfg

from det_adapt.config import add_sap_config
from det_adapt.detectron2_engine.backbone import VGG16, build_vgg16_backbone
from det_adapt.detectron2_engine.build import build_detector, build_optimizer, load_weights
from det_adapt.detectron2_engine.catalog import register_all, register_datasets, to_dicts
from det_adapt.detectron2_engine.sap_rcnn import SAPRCNN
from det_adapt.detectron2_engine.trainer import PairedTrainLoader, SapTrainer, Trainer

__all__ = [
    "SAPRCNN",
    "VGG16",
    "PairedTrainLoader",
    "SapTrainer",
    "Trainer",
    "add_sap_config",
    "build_detector",
    "build_optimizer",
    "build_vgg16_backbone",
    "defaults",
    "load_weights",
    "register_datasets",
    "to_dicts",
]

register_all()


def defaults() -> CfgNode:
    """Detectron2's own tree of keys, with ours."""
    cfg = get_cfg()
    add_sap_config(cfg)
    return cfg
