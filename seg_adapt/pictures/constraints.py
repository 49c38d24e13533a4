"""A prediction before and after its class shares were brought between bounds."""

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from shared.visualize import BACKGROUND, INK, panel


def draw_constraints(
    image: Tensor, before: Tensor, after: Tensor, limits: Sequence[Tensor], present: Tensor
) -> np.ndarray:
    """Image, prediction before and after, and a chart of the shares; RGB uint8 (H, W, 3).

    The chart has a row for each train id that seems present, shares from 0 to 1 on a square
    root scale: a band from lower to upper bound, a ring before, a dot after.

    Args:
        image: (3, H, W) uint8.
        before, after: probabilities (C, h, w).
        limits: lower and upper bound of every class's share, (C,) each.
        present: (C,) bool.
    """
    pixels = image.permute(1, 2, 0).cpu().numpy()
    size = pixels.shape[1::-1]
    colors = _hues(len(before))
    maps = [
        cv2.resize(colors[p.argmax(dim=0).cpu().numpy()], size, interpolation=cv2.INTER_NEAREST)
        for p in (before, after)
    ]
    shares = [p.mean(dim=(1, 2)).cpu().numpy() for p in (before, after)]
    bounds = [limit.cpu().numpy() for limit in limits]
    chart = _share_chart(shares, bounds, present.cpu().numpy(), colors)
    titles = ["target", "prediction", "within the bounds", "shares"]
    return panel([pixels, *maps, chart], titles, height=320)


def _hues(count: int) -> np.ndarray:
    """Colours (count, 3) uint8 RGB that tell train ids apart; a method knows no names."""
    hsv = np.full((1, count, 3), 230, dtype=np.uint8)
    hsv[0, :, 0] = np.linspace(0, 180, count, endpoint=False)
    hsv[0, 1::2, 2] = 150
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]


def _share_chart(
    shares: Sequence[np.ndarray],
    bounds: Sequence[np.ndarray],
    present: np.ndarray,
    colors: np.ndarray,
    row: int = 24,
    width: int = 320,
) -> np.ndarray:
    """A row per present class; `shares` before and after, `bounds` lower and upper, (C,) each."""
    shown = np.flatnonzero(present)
    chart = np.full((row * max(len(shown), 8), width, 3), BACKGROUND, dtype=np.uint8)

    def column(share: float) -> int:
        return 40 + round(float(np.sqrt(share)) * (width - 52))

    for line, c in enumerate(shown):
        middle, color = line * row + row // 2, tuple(int(v) for v in colors[c])
        cv2.putText(chart, str(c), (6, middle + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1)
        low, high = (column(bound[c]) for bound in bounds)
        cv2.rectangle(chart, (low, middle - 8), (high, middle + 8), color, cv2.FILLED)
        cv2.circle(chart, (column(shares[0][c]), middle), 6, INK, 1, cv2.LINE_AA)
        cv2.circle(chart, (column(shares[1][c]), middle), 3, INK, cv2.FILLED, cv2.LINE_AA)
    return chart
