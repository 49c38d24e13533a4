"""The detector on `torchvision.models.detection`, for a plain pip install."""

from det_adapt.config import defaults
from det_adapt.torchvision_engine.model import SapRCNN
from det_adapt.torchvision_engine.trainer import (
    Trainer,
    build_detector,
    build_optimizer,
    load_weights,
)

__all__ = ["SapRCNN", "Trainer", "build_detector", "build_optimizer", "defaults", "load_weights"]
