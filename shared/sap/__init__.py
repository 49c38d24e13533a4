"""SAPNet's spatial attention pyramid, the same for segmentation and for detection.

Li, Du, Zhang et al., "Spatial Attention Pyramid Network for Unsupervised Domain Adaptation",
ECCV 2020.
"""

from shared.sap.losses import sap_losses
from shared.sap.module import SapOutputs, SpatialAttentionPyramid
from shared.sap.options import SapOptions, add_sap_keys, sap_options
from shared.sap.pictures import draw_pyramid

__all__ = [
    "SapOptions",
    "SapOutputs",
    "SpatialAttentionPyramid",
    "add_sap_keys",
    "draw_pyramid",
    "sap_losses",
    "sap_options",
]
