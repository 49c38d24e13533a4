"""How much of the gap between two domains is color: target images in the source's colors."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seg_adapt.engine.checkpoint import load_method
from seg_adapt.engine.evaluate import evaluate
from seg_adapt.evaluation.inference import network_size
from shared.data.folders import data_root
from shared.data.images import read_image, write_png
from shared.data.own import resolve_segmentation

LEVELS = 256


def histograms(images: list[np.ndarray]) -> np.ndarray:
    """(3, 256) share of every level per channel, over all images (H, W, 3) uint8."""
    counts = sum(
        np.stack([np.bincount(image[..., c].ravel(), minlength=LEVELS) for c in range(3)])
        for image in images
    )
    return counts / counts.sum(axis=1, keepdims=True)


def match_mean_and_deviation(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`image` with each channel's mean and deviation those of `reference` (3, 256).

    Reinhard et al., "Color transfer between images", 2001, Eq. 10 and 11, in RGB.
    """
    levels = np.arange(LEVELS)
    mean = reference @ levels
    deviation = np.sqrt(reference @ levels**2 - mean**2)
    own_mean, own_deviation = image.mean(axis=(0, 1)), image.std(axis=(0, 1))
    moved = (image - own_mean) / np.maximum(own_deviation, 1e-6) * deviation + mean
    return moved.round().clip(0, 255).astype(np.uint8)


def match_histogram(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`image` with each channel's distribution that of `reference` (3, 256), level by level."""
    own = histograms([image])
    matched = np.empty_like(image)
    for c in range(3):
        # The middle of each level's share, so that equal distributions map onto themselves.
        place = own[c].cumsum() - own[c] / 2
        target = reference[c].cumsum() - reference[c] / 2
        seen = reference[c] > 0
        table = np.interp(place, target[seen], np.arange(LEVELS)[seen])
        matched[..., c] = table.round().astype(np.uint8)[image[..., c]]
    return matched


TRANSFERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean_and_deviation": match_mean_and_deviation,
    "histogram": match_histogram,
}


def score_transferred(checkpoint: Path, transfer: str) -> float:
    """mIoU in percent of a trained method on its test images in the colors of its source."""
    device = torch.device("cpu")
    method, space, cfg = load_method(checkpoint, device)
    root = data_root(cfg.DATASETS.ROOT)
    source = resolve_segmentation(cfg.DATASETS.TRAIN, root, space=space, labeled=True)
    test = resolve_segmentation(cfg.DATASETS.TEST, root, space=space, labeled=True)
    reference = histograms([_pixels(record.image) for record in source.records])
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for number, record in enumerate(test.records):
            path = Path(folder) / "images" / f"{number}.png"
            write_png(path, TRANSFERS[transfer](_pixels(record.image), reference))
            records.append(replace(record, image=path))
        matrix = evaluate(
            method,
            replace(test, records=tuple(records)),
            space,
            resize=network_size(cfg, "TEST"),
            interpolation=cfg.INPUT.INTERPOLATION,
            device=device,
            predictions=Path(folder) / "predictions",
        )
    return 100.0 * matrix.scores(space)["miou"]


def _pixels(path: Path) -> np.ndarray:
    return read_image(path).permute(1, 2, 0).numpy()
