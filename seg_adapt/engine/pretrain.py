"""Pre-training of a small backbone on rendered object crops: the toys' stand-in for ImageNet.

It classifies crops of scenes in many random styles; the target's own renderer is not among them
(its scenes would be target labels). Every method starts from these weights, and ROAD's teacher is
this network.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from seg_adapt.models.build import build_classifier, build_segmentor
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import conventions
from seg_adapt.options import ModelOptions
from shared import checkpoint
from shared.data.label_maps import CITYSCAPES_19
from shared.schedules import poly, warm_up
from shared.toy.crops import render_crops, render_styled

logger = logging.getLogger(__name__)

CROP = 64  # pixels
CROPS_PER_SCENE = 16
SCENES_PER_BATCH = 4
STEPS = 600
TEST_SCENES = 40
STATISTICS_SCENES = 40
TOY_WEIGHTS = "toy"


class _Scenes(Dataset):
    """Scene i gives `CROPS_PER_SCENE` crops; training scenes and test scenes share no index."""

    def __init__(self, first: int, count: int, seed: int) -> None:
        self.first, self.count, self.seed = first, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return render_crops(self.first + index, seed=self.seed, count=CROPS_PER_SCENE, size=CROP)


def weights_path(root: Path, architecture: str, width: float) -> Path:
    return root / "toy" / "weights" / f"{architecture}_width{width:g}.pt"


def resolve_weights(cfg: CfgNode, root: Path, *, make: bool) -> str:
    """`MODEL.WEIGHTS`, with `toy` replaced by the file that the pre-training command writes.

    Args:
        make: pre-train now where the file is missing.
    """
    if cfg.MODEL.WEIGHTS != TOY_WEIGHTS:
        return cfg.MODEL.WEIGHTS
    if make:
        ensure_weights(root, cfg.MODEL.ARCHITECTURE, cfg.MODEL.WIDTH)
    return str(weights_path(root, cfg.MODEL.ARCHITECTURE, cfg.MODEL.WIDTH))


def ensure_weights(root: Path, architecture: str, width: float) -> Path:
    """The file of pre-trained toy weights; pre-trains where it is missing."""
    path = weights_path(root, architecture, width)
    if not path.is_file():
        logger.info("pre-training the toy backbone on rendered crops: %s", path)
        accuracy = pretrain(path, architecture=architecture, width=width)
        logger.info("toy backbone: %.1f %% of unseen crops right", 100 * accuracy)
    return path


def pretrain(
    path: Path,
    *,
    architecture: str,
    width: float,
    steps: int = STEPS,
    seed: int = 0,
    workers: int = 1,
    test_scenes: int = TEST_SCENES,
) -> float:
    """Trains, writes the weights to `path` and returns the accuracy on scenes not trained on."""
    torch.manual_seed(seed)
    # The statistics are measured last, in training mode.
    options = ModelOptions(architecture=architecture, width=width, bn="train")
    model = build_classifier(options, num_classes=len(CITYSCAPES_19))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    scenes = _Scenes(test_scenes, steps * SCENES_PER_BATCH, seed)
    model.train()
    bar = tqdm(_batches(scenes, workers), total=steps, desc="pre-training", unit="it")
    for step, (images, classes) in enumerate(bar):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * poly(step, steps) * warm_up(step, 20)
        loss = F.cross_entropy(model(images).flatten(1), classes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    accuracy = _accuracy(model, _Scenes(0, test_scenes, seed))
    segmentor = build_segmentor(options, num_classes=1)
    segmentor.load_state_dict(_backbone(model), strict=False)
    _measure_statistics(segmentor, seed)
    checkpoint.save({"segmentor": _backbone(segmentor), "made_for": conventions(segmentor)}, path)
    return accuracy


def _backbone(model: Segmentor) -> dict[str, Tensor]:
    heads = tuple(f"stages.{stage}." for stage in model.head_stages)
    return {k: v for k, v in model.state_dict().items() if not k.startswith(heads)}


@torch.no_grad()
def _measure_statistics(segmentor: Segmentor, seed: int) -> None:
    """BatchNorm's running statistics anew, on whole scenes through the dilated network.

    Those of small crops, half of whose map is padding, do not fit what a frozen teacher sees.
    """
    segmentor.train()
    for module in segmentor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    for first in range(0, STATISTICS_SCENES, SCENES_PER_BATCH):
        scenes = range(first, first + SCENES_PER_BATCH)
        images = np.stack([render_styled(index, seed=seed).image for index in scenes])
        segmentor.run(torch.from_numpy(images).permute(0, 3, 1, 2), until=segmentor.feature_stage)


def _batches(scenes: _Scenes, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    loader = DataLoader(scenes, batch_size=SCENES_PER_BATCH, num_workers=workers)
    for images, classes in loader:
        yield images.flatten(0, 1).permute(0, 3, 1, 2), classes.flatten()


@torch.no_grad()
def _accuracy(model: torch.nn.Module, scenes: _Scenes) -> float:
    model.eval()
    hits = [
        (model(images).flatten(1).argmax(1) == classes).float().mean()
        for images, classes in _batches(scenes, workers=0)
    ]
    return torch.stack(hits).mean().item()
