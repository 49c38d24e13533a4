"""The detector on `torchvision.models.detection`, for a plain pip install."""

from det_adapt.engines.torchvision.model import TorchvisionDetector
from det_adapt.engines.torchvision.names import from_detectron2, from_imagenet, to_detectron2
from det_adapt.engines.torchvision.weights import LoadReport, fill, initialise

__all__ = [
    "LoadReport",
    "TorchvisionDetector",
    "fill",
    "from_detectron2",
    "from_imagenet",
    "initialise",
    "to_detectron2",
]
