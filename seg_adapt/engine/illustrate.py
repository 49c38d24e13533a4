"""The pictures of a run: panels of predictions, and what the method itself shows."""

from pathlib import Path

import numpy as np
import torch

from seg_adapt.data.dataset import SlotDataset, collate, read_pair
from seg_adapt.engine.evaluate import evaluating, prediction_path
from seg_adapt.methods.base import Method
from shared.catalog import SegmentationDataset
from shared.errors import UserError
from shared.images import read_labels, remap, write_png
from shared.label_maps import LabelSpace, encode_colors, lookup_table
from shared.visualize import panel


def write_panels(
    folder: Path,
    dataset: SegmentationDataset,
    space: LabelSpace,
    columns: dict[str, Path],
    count: int,
    height: int = 256,
) -> dict[str, np.ndarray]:
    """Panels input | truth | predictions… of `count` images spread over the dataset.

    Args:
        columns: title to folder of predictions, in order.

    Returns:
        name of the image to its panel, (H, W, 3) uint8 RGB.
    """
    table = lookup_table(dataset.dataset, space)
    written = np.arange(256, dtype=np.uint8)
    if space.label_ids is not None:
        written = lookup_table("cityscapes", space)
    places = np.linspace(0, len(dataset.records) - 1, min(count, len(dataset.records)))
    panels = {}
    for record in (dataset.records[round(place)] for place in places):
        image, labels = read_pair(record, dataset.encoding, table)
        tiles = [image.permute(1, 2, 0).numpy(), encode_colors(labels, space)]
        for predictions in columns.values():
            predicted = read_labels(prediction_path(predictions, record.name), "index")
            tiles.append(encode_colors(remap(predicted, written), space))
        panels[record.name] = panel(tiles, ["input", "ground truth", *columns], height=height)
        write_png(folder / f"{record.name}.png", panels[record.name])
    return panels


def write_pictures(
    folder: Path,
    method: Method,
    source: SlotDataset,
    target: SlotDataset | None,
    device: torch.device,
    count: int,
) -> dict[str, np.ndarray]:
    """What the method shows of the first `count` training samples of each domain.

    Returns:
        name to picture, (H, W, 3) uint8 RGB.
    """
    if target is None:
        return {}
    batches = []
    for dataset in (source, target):
        batch = collate([dataset[slot] for slot in range(count)])
        if isinstance(batch, UserError):
            raise batch
        batches.append(batch.to(device))
    with evaluating(method):
        pictures = method.pictures(*batches)
    for name, picture in pictures.items():
        write_png(folder / f"{name}.png", picture)
    return pictures
