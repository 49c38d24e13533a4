"""Pseudo-labels of the target's training images, for a round of self-training.

Per class c, the confidences of the n_c pixels that are predicted as c, in descending order, give
the threshold t_c = min(cap, the floor(q·n_c)-th of them); t_c = 1 where there is no such pixel.
A pixel's label is argmax_c p_c / t_c where that ratio is at least 1, otherwise it is ignored.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from seg_adapt.data.reading import pseudo_label_path
from seg_adapt.data.transforms import resize_image
from seg_adapt.evaluation.inference import Windows, window_probabilities
from seg_adapt.methods.base import Method
from shared import distributed
from shared.data.images import read_image, write_png
from shared.data.label_maps import IGNORE
from shared.data.records import SegmentationDataset, SegmentationRecord
from shared.errors import UserError
from shared.files import write_atomically
from shared.predictor import evaluating

BINS = 2**14


class ConfidenceHistograms:
    """How often each class was predicted with which confidence, in memory of C·bins counts.

    Bin b holds the confidences in [b / bins, (b + 1) / bins), the last one 1 as well. Thresholds
    are lower edges of bins: at most 1 / bins (6.1e-5) below the exact ones and never above them.

    Args:
        bins: a power of two, for which no confidence is rounded into a neighboring bin; more
            than `num_classes`, so that no threshold is 0.
    """

    def __init__(self, num_classes: int, bins: int = BINS) -> None:
        self.bins = bins
        self.counts = torch.zeros(num_classes, bins, dtype=torch.int64)

    def update(self, probabilities: Tensor) -> None:
        """Counts every pixel of (N, C, H, W) probabilities, on any device.

        Raises:
            UserError: a probability is not finite.
        """
        confidences, classes = probabilities.max(dim=1)
        if not torch.isfinite(confidences).all():
            raise UserError(
                "cannot make pseudo-labels: the network's predictions are not finite, its training "
                "has diverged; lower SOLVER.MODEL.LR or SELF_TRAINING.LR"
            )
        bins = (confidences * self.bins).long().clamp_(max=self.bins - 1)
        places = classes.mul_(self.bins).add_(bins).flatten()
        counts = torch.bincount(places, minlength=self.counts.numel())
        self.counts += counts.view_as(self.counts).cpu()

    def merge(self) -> None:
        """Adds up the counts of all processes, in each of them."""
        self.counts = distributed.sum_tensor(self.counts)

    def thresholds(self, quantile: float, cap: float) -> Tensor:
        """(C,) float32 thresholds t_c.

        Args:
            quantile: q, the share of each class's pixels that lies at or above its threshold.
            cap: upper bound of thresholds; a class without a floor(q·n_c)-th pixel has 1 all
                the same.
        """
        ranks = (quantile * self.counts.sum(dim=1).double()).floor().long()
        at_least = self.counts.flip(1).cumsum(dim=1)
        steps_down = (at_least < ranks[:, None]).sum(dim=1)
        edges = (self.bins - 1 - steps_down).float() / self.bins
        return edges.clamp(max=cap).masked_fill(ranks == 0, 1.0)


def assign_pseudo_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """The class of the largest ratio of probability to threshold where that is at least 1.

    Args:
        probabilities: (N, C, H, W).
        thresholds: (C,), positive.

    Returns:
        (N, H, W) uint8 train ids, 255 = ignore.
    """
    ratios, classes = (probabilities / thresholds.to(probabilities)[:, None, None]).max(dim=1)
    return classes.masked_fill(ratios < 1, IGNORE).to(torch.uint8)


def make_pseudo_labels(
    method: Method,
    dataset: SegmentationDataset,
    folder: Path,
    *,
    resize: tuple[int, int] | None,
    interpolation: str,
    device: torch.device,
    quantile: float,
    cap: float,
    windows: Windows | None = None,
) -> dict:
    """Labels every image of `dataset` with the method as it is; processes share the images.

    Two passes, one for the thresholds and one for the labels, at the network's input size. No
    probability outlives its image: neither memory nor disk grows with them. The folder is emptied
    first; it is complete (`is_complete`) once `thresholds.json` is there, which comes last.

    Args:
        folder: of one PNG of train ids per image, see `pseudo_label_path`.
        resize: (height, width) of the network's input; None keeps the image's size.
        windows: of the network's input; None predicts it whole.
        quantile, cap: see `ConfidenceHistograms.thresholds`.

    Returns:
        what `thresholds.json` holds: "images", "quantile", "cap"; "kept", the share of all pixels
        that is labeled; by train id "thresholds" and the shares of all pixels that were
        "predicted" as a class and that are "labeled" as it.
    """
    if distributed.is_main():
        # Interrupted, an emptied folder must not look complete.
        _summary_path(folder).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    distributed.barrier()

    def predictions(what: str) -> Iterator[tuple[SegmentationRecord, Tensor]]:
        for record in tqdm(
            dataset.records[distributed.rank() :: distributed.world_size()],
            desc=f"{what} of {dataset.name}",
            leave=False,
            disable=not distributed.is_main(),
            mininterval=1.0,
        ):
            image = read_image(record.image)
            if resize is not None:
                image = resize_image(image, resize, interpolation)
            images = image[None].to(device)
            if windows is not None:
                yield record, window_probabilities(method, images, windows)
                continue
            logits = method.predict(images).float()
            yield record, method.segmentor.upsample(logits, tuple(image.shape[-2:])).softmax(dim=1)

    num_classes = method.segmentor.num_classes
    histograms = ConfidenceHistograms(num_classes)
    labeled = torch.zeros(num_classes, dtype=torch.int64)
    with evaluating(method):
        for _, probabilities in predictions("thresholds"):
            histograms.update(probabilities)
        histograms.merge()
        thresholds = histograms.thresholds(quantile, cap)
        for record, probabilities in predictions("pseudo-labels"):
            labels = assign_pseudo_labels(probabilities, thresholds)[0].cpu()
            labeled += torch.bincount(labels.flatten(), minlength=IGNORE + 1)[:num_classes]
            write_png(pseudo_label_path(folder, record), labels.numpy())
    labeled = distributed.sum_tensor(labeled)
    pixels = histograms.counts.sum()
    summary = {
        "images": len(dataset.records),
        "quantile": quantile,
        "cap": cap,
        "kept": (labeled.sum() / pixels).item(),
        "thresholds": thresholds.tolist(),
        "predicted": (histograms.counts.sum(dim=1) / pixels).tolist(),
        "labeled": (labeled / pixels).tolist(),
    }
    # The sum above has waited for every process's last image.
    if distributed.is_main():
        write_atomically(_summary_path(folder), json.dumps(summary, indent=1).encode())
    distributed.barrier()
    return summary


def is_complete(folder: Path) -> bool:
    """Whether `make_pseudo_labels` ran to its end there."""
    return _summary_path(folder).is_file()


def _summary_path(folder: Path) -> Path:
    return folder / "thresholds.json"
