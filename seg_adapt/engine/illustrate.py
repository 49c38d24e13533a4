"""The pictures of a run: panels of predictions, and what the method itself shows."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode

from seg_adapt.data.dataset import SlotDataset
from seg_adapt.data.reading import Reader
from seg_adapt.data.transforms import resize_image
from seg_adapt.engine.evaluate import prediction_path
from seg_adapt.evaluation.inference import network_size
from seg_adapt.methods.base import Method
from shared.data.images import read_labels, remap
from shared.data.label_maps import LabelSpace, encode_colors, lookup_table
from shared.data.records import SegmentationDataset
from shared.pictures import evenly_spaced, panel, to_array
from shared.predictor import evaluating

PANEL_HEIGHT = 256


def method_pictures(
    method: Method,
    source: SlotDataset,
    target: SlotDataset,
    count: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """What the method shows of its first training samples; see `Method.pictures`.

    Args:
        count: images per domain; at most a batch, since others may differ in size.
    """
    batches = (dataset.batch(range(count)).to(device) for dataset in (source, target))
    with evaluating(method):
        return method.pictures(*batches)


def prediction_panels(
    cfg: CfgNode,
    method: Method,
    test: SegmentationDataset,
    space: LabelSpace,
    columns: Mapping[str, Path],
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Panels input | truth | what the method shows | predictions…, over the test images.

    Args:
        columns: title to folder of predictions.
    """
    read = Reader(test, space)
    written = np.arange(256, dtype=np.uint8)
    if space.label_ids is not None:
        written = lookup_table("cityscapes", space)
    panels = {}
    for record in evenly_spaced(test.records, cfg.TEST.PICTURES):
        image, labels = read(record)
        tiles = {"input": to_array(image), "ground truth": encode_colors(labels, space)}
        size = network_size(cfg, "TEST") or tuple(image.shape[-2:])
        seen = resize_image(image, size, cfg.INPUT.INTERPOLATION)[None].to(device)
        with evaluating(method):
            tiles |= {title: tile[0] for title, tile in method.columns(seen).items()}
        for title, folder in columns.items():
            predicted = read_labels(prediction_path(folder, record.name), "index")
            tiles[title] = encode_colors(remap(predicted, written), space)
        panels[record.name] = panel(list(tiles.values()), list(tiles), height=PANEL_HEIGHT)
    return panels
