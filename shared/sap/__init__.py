"""SAPNet's spatial attention pyramid, the same for segmentation and for detection.

Li, Du, Zhang et al., "Spatial Attention Pyramid Network for Unsupervised Domain Adaptation",
ECCV 2020.
"""

from shared.sap.losses import sap_losses
from shared.sap.module import SapOutputs, SpatialAttentionPyramid
from shared.sap.options import SapOptions
from shared.sap.pictures import draw_pyramid

__all__ = [
    "SapOptions",
    "SapOutputs",
    "SpatialAttentionPyramid",
    "draw_pyramid",
    "sap_losses",
]
