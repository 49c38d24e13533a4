"""Scores of a method in percent: by our count, and by Cityscapes' own script."""

from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from seg_adapt.engine.build import network_size
from seg_adapt.engine.evaluate import evaluate
from seg_adapt.evaluation.cityscapes import run_official
from seg_adapt.evaluation.inference import Windows
from seg_adapt.methods.base import Method
from shared.data.label_maps import LabelSpace
from shared.data.records import SegmentationDataset


def score(
    cfg: CfgNode,
    method: Method,
    test: SegmentationDataset,
    space: LabelSpace,
    predictions: Path,
    device: torch.device,
    windows: Windows | None = None,
) -> dict:
    """Predicts every test image and counts; see `evaluate`."""
    matrix = evaluate(
        method,
        test,
        space,
        resize=network_size(cfg, "TEST"),
        interpolation=cfg.INPUT.INTERPOLATION,
        windows=windows,
        device=device,
        predictions=predictions,
    )
    return _percent(matrix.scores(space))


def score_officially(
    test: SegmentationDataset, space: LabelSpace, predictions: Path, output: Path
) -> dict | None:
    """What Cityscapes' script says; None where the data is not laid out as Cityscapes is.

    Args:
        output: folder for the script's own files.
    """
    if not (test.official_root and space.label_ids):
        return None
    return _percent(run_official(test.official_root, predictions, output, space))


def _percent(scores: dict) -> dict:
    """Shares to percent, through nested dictionaries; None stays None."""
    return {
        key: _percent(value)
        if isinstance(value, dict)
        else (None if value is None else 100.0 * value)
        for key, value in scores.items()
    }
