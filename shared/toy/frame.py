"""What a rendered toy scene consists of."""

from dataclasses import dataclass

import numpy as np

from shared.data.label_maps import CITYSCAPES_19, ID_TABLES

LABEL_IDS = {name: label_id for label_id, name in ID_TABLES.get("cityscapes").items()}
THINGS = CITYSCAPES_19[CITYSCAPES_19.index("person") :]
# Cityscapes' polygon files name a crowd that nobody separated with this suffix.
GROUP = "group"


@dataclass(frozen=True)
class ToyObject:
    """One polygon of a scene; a shape of several parts is several objects.

    Args:
        label: cityscapesScripts label name.
        polygon: (K, 2) int32 pixel x, y; may leave the picture.
        instance: 0 for stuff and groups; for things n = 1, 2, … per class, which is pixel value
            id·1000 + n − 1 of the instance picture. Parts of one thing share it.
        depth: meters, of the part nearest to the camera.
    """

    label: str
    polygon: np.ndarray
    instance: int
    depth: float

    @property
    def label_id(self) -> int:
        return LABEL_IDS[self.label.removesuffix(GROUP)]

    @property
    def instance_id(self) -> int:
        """The pixel value of the instance picture."""
        return self.label_id * 1000 + self.instance - 1 if self.instance else self.label_id


@dataclass(frozen=True)
class ToyFrame:
    """A picture with its complete ground truth.

    Args:
        image: (H, W, 3) uint8 RGB.
        label_ids: (H, W) uint8, Cityscapes label ids.
        instance_ids: (H, W) uint16, things id·1000 + k with k from 0, everything else the id.
        depth: (H, W) float32 meters along the optical axis; the sky is at 1000.
        objects: in painter's order, later ones cover earlier ones.
    """

    image: np.ndarray
    label_ids: np.ndarray
    instance_ids: np.ndarray
    depth: np.ndarray
    objects: tuple[ToyObject, ...]
