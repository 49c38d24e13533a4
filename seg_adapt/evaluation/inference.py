"""Predictions at the size of the original image; what evaluation and `predict.py` share."""

import numpy as np
import torch
from torch import Tensor

from seg_adapt.data.transforms import resize_image
from seg_adapt.methods.base import Method


@torch.inference_mode()
def predict_train_ids(
    method: Method,
    images: Tensor,
    *,
    resize: tuple[int, int] | None,
    size: tuple[int, int],
    interpolation: str = "bicubic",
) -> np.ndarray:
    """The most likely class of every pixel, in whatever mode (train, eval) `method` is.

    Args:
        images: (N, 3, H, W) uint8 RGB, on the method's device.
        resize: (height, width) that the network sees; None leaves the images as they are.
        size: (height, width) that the logits are upsampled to before the maximum is taken.
        interpolation: of the images' resize, "bicubic" or "bilinear".

    Returns:
        (N, *size) uint8 train ids.
    """
    if resize is not None:
        images = resize_image(images, resize, interpolation)
    logits = method.segmentor.upsample(method.predict(images).float(), size)
    # On a CPU, argmax over this axis takes three times as long.
    return logits.max(dim=1).indices.to(torch.uint8).cpu().numpy()
