"""What a rendered toy scene consists of."""

from dataclasses import dataclass

import numpy as np

LABEL_IDS = {
    "ego vehicle": 1,
    "static": 4,
    "dynamic": 5,
    "ground": 6,
    "road": 7,
    "sidewalk": 8,
    "parking": 9,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
    # Cityscapes' polygon files name a crowd that nobody separated with this suffix.
    "persongroup": 24,
    "cargroup": 26,
}
# Position is the train id.
EVALUATED = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign"),
    *("vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train"),
    *("motorcycle", "bicycle"),
)
THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


@dataclass(frozen=True)
class ToyObject:
    """One polygon of a scene; a shape of several parts is several objects.

    Args:
        label: cityscapesScripts label name.
        polygon: (K, 2) int32 pixel x, y; may leave the picture.
        instance: 0 for stuff and groups; for things n = 1, 2, … per class, which is pixel value
            id·1000 + n − 1 of the instance picture. Parts of one thing share it.
        depth: metres, of the part nearest to the camera.
    """

    label: str
    polygon: np.ndarray
    instance: int
    depth: float

    @property
    def label_id(self) -> int:
        return LABEL_IDS[self.label]

    @property
    def instance_id(self) -> int:
        """The pixel value of the instance picture."""
        if self.instance == 0:
            return self.label_id
        return self.label_id * 1000 + self.instance - 1


@dataclass(frozen=True)
class ToyFrame:
    """A picture with its complete ground truth.

    Args:
        image: (H, W, 3) uint8 RGB.
        label_ids: (H, W) uint8, Cityscapes label ids.
        instance_ids: (H, W) uint16, things id·1000 + k with k from 0, everything else the id.
        depth: (H, W) float32 metres along the optical axis; the sky is at 1000.
        objects: in painter's order, later ones cover earlier ones.
    """

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray
    objects: tuple[ToyObject, ...]
