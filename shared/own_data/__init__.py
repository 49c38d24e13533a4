"""A user's own data: a folder of images, a description of images and labels, a COCO JSON.

Nothing here is registered: what a file on disk says travels inside the data set it describes.
"""

from shared.own_data.coco import coco_detection
from shared.own_data.detection import resolve_detection
from shared.own_data.label_space import resolve_label_space
from shared.own_data.segmentation import resolve_segmentation

__all__ = ["coco_detection", "resolve_detection", "resolve_label_space", "resolve_segmentation"]
