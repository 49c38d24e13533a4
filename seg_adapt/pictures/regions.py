"""Where the cells of a crop lie in the whole image, and what the domain classifiers say of them."""

import cv2
import numpy as np
from torch import Tensor

from shared.visualize import INK, overlay

HEIGHT = 256  # pixels; below that, numbers could not be read


def draw_regions(image: Tensor, regions: Tensor, probabilities: Tensor) -> np.ndarray:
    """The image under a map of P(target), divided into regions; RGB uint8, enlarged where small.

    Blue is source, red is target; each region shows its number of cells above their mean P(target).

    Args:
        image: (3, H, W) uint8.
        regions: (h, w) region of every cell, −1 for padding.
        probabilities: (h, w) in [0, 1].
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    enlarged = max(1, HEIGHT // len(pixels))
    pixels = pixels.repeat(enlarged, axis=0).repeat(enlarged, axis=1)
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
        left, top = int(columns.min()) + 5, int(rows.min()) + 18
        for line, text in enumerate((str(cells.sum()), f"{shares[cells].mean():.2f}")):
            for color, thickness in (((255, 255, 255), 4), (INK, 1)):
                place = (left, top + 18 * line)
                cv2.putText(
                    drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, thickness, cv2.LINE_AA
                )
    return drawn
