"""The paper's Fig. 2: where every level looks, and how much it counts."""

from collections.abc import Sequence

import cv2
import numpy as np

from shared.pictures import heat_map, overlay, panel
from shared.sap.module import SapOutputs


def draw_pyramid(
    images: Sequence[np.ndarray], outputs: SapOutputs, levels: Sequence[int], *, height: int = 192
) -> np.ndarray:
    """One row per image: the input, then its mask of every level, resized to the input.

    A title gives the window kⁿ and the level's weight, the mean of φⁿ over channels. Each mask is
    stretched to its own range; a level of one cell has no mask to show and is left gray.

    Args:
        images: N RGB uint8 arrays (H, W, 3) of one size.
        outputs: of these images, with masks.
        levels: kⁿ.
        height: of a row's pictures, in pixels.
    """
    rows = []
    for index, image in enumerate(images):
        tiles, titles = [image], ["input"]
        for level, (kernel, mask) in enumerate(zip(levels, outputs.masks, strict=True)):
            tiles.append(_draw_mask(image, mask[index, 0].float().cpu().numpy()))
            weight = 1 / len(levels)
            if outputs.level_weights is not None:
                weight = outputs.level_weights[index, level].mean().item()
            titles.append(f"k {kernel}: {weight:.3f}")
        rows.append(panel(tiles, titles, height=height))
    return np.vstack(rows)


def _draw_mask(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if mask.size == 1:
        return np.full_like(image, 128)
    levels = cv2.normalize(mask, None, 0, 255, cv2.NORM_MINMAX)
    levels = cv2.resize(levels, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return overlay(image, heat_map(levels, 0, 255), alpha=0.6)
