"""Where the cells of a crop lie in the whole image, and what the domain classifiers say of them."""

import cv2
import numpy as np
from torch import Tensor

from shared.visualize import INK, overlay


def draw_regions(image: Tensor, regions: Tensor, probabilities: Tensor) -> np.ndarray:
    """The image under a map of P(target), divided into regions; RGB uint8 (H, W, 3).

    Blue is source, red is target; each region shows its number of cells and their mean P(target).

    Args:
        image: (3, H, W) uint8.
        regions: (h, w) region of every cell, −1 for padding.
        probabilities: (h, w) in [0, 1].
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    size = pixels.shape[1::-1]
    index = cv2.resize(
        regions.cpu().numpy().astype(np.int16), size, interpolation=cv2.INTER_NEAREST
    )
    shares = probabilities.float().cpu().numpy()
    heat = cv2.applyColorMap((255 * shares).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = cv2.resize(heat[..., ::-1], size, interpolation=cv2.INTER_NEAREST)
    drawn = overlay(pixels, np.ascontiguousarray(heat), alpha=0.45, ignore_mask=index < 0)
    edges = np.zeros(index.shape, dtype=bool)
    edges[:, 1:] |= index[:, 1:] != index[:, :-1]
    edges[1:] |= index[1:] != index[:-1]
    drawn[edges] = 255
    for region in np.unique(index[index >= 0]):
        cells = regions.cpu().numpy() == region
        rows, columns = np.nonzero(index == region)
        text = f"{cells.sum()}: {shares[cells].mean():.2f}"
        place = (int(columns.min()) + 3, int(rows.min()) + 12)
        for color, thickness in (((255, 255, 255), 3), (INK, 1)):
            cv2.putText(
                drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, color, thickness, cv2.LINE_AA
            )
    return drawn
