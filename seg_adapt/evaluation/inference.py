"""Predictions at the size of the original image; what evaluation and `predict.py` share."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor

from seg_adapt.data.transforms import resize_image
from seg_adapt.methods.base import Method


@dataclass(frozen=True)
class Windows:
    """Windows that slide over a test image, for networks that pool over their whole map.

    Args:
        size: (height, width) in pixels; that of the training crops.
        stride: distance between neighbors as a share of their size.
    """

    size: tuple[int, int]
    stride: float = 2 / 3

    @staticmethod
    def from_config(cfg: CfgNode) -> "Windows | None":
        """None where images are predicted whole."""
        if not cfg.TEST.WINDOW:
            return None
        return Windows(tuple(reversed(cfg.TEST.WINDOW)), cfg.TEST.STRIDE)

    def slices(self, size: tuple[int, int]) -> list[tuple[slice, slice]]:
        """(rows, columns) of every window over an image of `size`, (height, width) or more."""
        rows, columns = (
            [slice(start, start + window) for start in _starts(length, window, self.stride)]
            for length, window in zip(size, self.size, strict=True)
        )
        return [(row, column) for row in rows for column in columns]


def network_size(cfg: CfgNode, part: str) -> tuple[int, int] | None:
    """(height, width) that images are brought to whole; None keeps their own.

    Args:
        part: TEST, or TARGET for pseudo-labels.
    """
    return tuple(reversed(cfg.INPUT[part].RESIZE)) or None


def _starts(length: int, window: int, stride: float) -> list[int]:
    """Evenly spaced, but for the last window, which ends at the border."""
    step = math.ceil(stride * window)
    return [*range(0, length - window, step), length - window]


@torch.inference_mode()
def predict_train_ids(
    method: Method,
    images: Tensor,
    *,
    resize: tuple[int, int] | None,
    size: tuple[int, int],
    interpolation: str = "bicubic",
    windows: Windows | None = None,
) -> np.ndarray:
    """The most likely class of every pixel, in whatever mode (train, eval) `method` is.

    Args:
        images: (N, 3, H, W) uint8 RGB, on the method's device.
        resize: (height, width) that the network sees; None leaves the images as they are.
        size: (height, width) that the scores are upsampled to before the maximum is taken.
        interpolation: of the images' resize, "bicubic" or "bilinear".
        windows: of the resized images; None predicts them whole.

    Returns:
        (N, *size) uint8 train ids.
    """
    if resize is not None:
        images = resize_image(images, resize, interpolation)
    if windows is None:
        scores = method.predict(images).float()
    else:
        scores = window_probabilities(method, images, windows)
    scores = method.segmentor.upsample(scores, size)
    # On a CPU, argmax over this axis takes three times as long.
    return scores.max(dim=1).indices.to(torch.uint8).cpu().numpy()


def window_probabilities(method: Method, images: Tensor, windows: Windows) -> Tensor:
    """Every pixel's class probabilities, their mean over the windows that hold it.

    Images smaller than a window are padded with black below and to the right, like training crops.

    Args:
        images: (N, 3, H, W) uint8 RGB.

    Returns:
        (N, C, H, W), float.
    """
    height, width = images.shape[-2:]
    below, right = (
        max(window - length, 0)
        for window, length in zip(windows.size, (height, width), strict=True)
    )
    images = F.pad(images, (0, right, 0, below))
    classes = method.segmentor.num_classes
    total = torch.zeros(len(images), classes, *images.shape[-2:], device=images.device)
    count = torch.zeros(images.shape[-2:], device=images.device)
    for rows, columns in windows.slices(tuple(images.shape[-2:])):
        logits = method.predict(images[..., rows, columns]).float()
        total[..., rows, columns] += method.segmentor.upsample(logits, windows.size).softmax(dim=1)
        count[rows, columns] += 1
    return total.div_(count)[..., :height, :width]
