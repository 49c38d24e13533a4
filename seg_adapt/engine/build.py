"""From a config to what it names: the only translation between keys and keyword arguments."""

from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from seg_adapt.data.dataset import SlotDataset
from seg_adapt.data.transforms import JointTransform
from seg_adapt.engine.selection import Selection, StylizedImages, hold_out
from seg_adapt.evaluation.inference import Windows, network_size
from seg_adapt.methods import METHODS
from seg_adapt.methods.base import Method
from seg_adapt.models.build import build_segmentor
from seg_adapt.options import ModelOptions
from shared import distributed
from shared.data.folders import data_root
from shared.data.label_maps import LabelSpace
from shared.data.own import resolve_segmentation, split_names
from shared.data.records import SegmentationDataset
from shared.domain_losses import Domain
from shared.errors import UserError
from shared.slots import BatchPlan, PairedLoader, share
from shared.toy.layouts import ensure


def device_of(cfg: CfgNode) -> torch.device:
    """Of MODEL.DEVICE; UserError for a GPU that is not there."""
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        raise UserError("MODEL.DEVICE is cuda, but torch sees no GPU: use MODEL.DEVICE cpu")
    return torch.device(cfg.MODEL.DEVICE)


def ensure_toys(cfg: CfgNode, root: Path) -> None:
    """Makes the toy data sets that the config names and that are not there."""
    keys = ("TRAIN", "TARGET", "TEST")
    names = [name for key in keys for name in split_names(cfg.DATASETS[key])]
    ensure(names, root, count=cfg.DATASETS.TOY_COUNT, val_count=cfg.DATASETS.TOY_VAL_COUNT)


def build_method(cfg: CfgNode, num_classes: int) -> Method:
    """Untrained: `seg_adapt.models.weights.load_pretrained` loads the network's weights.

    The network draws first: every method of one seed starts from the same head.
    """
    segmentor = build_segmentor(ModelOptions.from_config(cfg), num_classes)
    return METHODS.get(cfg.METHOD).from_config(cfg, segmentor)


def transform_from_config(cfg: CfgNode, domain: Domain) -> JointTransform:
    node = cfg.INPUT[domain.name]
    return JointTransform(
        resize=tuple(node.RESIZE) or None,
        scales=tuple(node.SCALES),
        crop=tuple(cfg.INPUT.CROP) or None,
        flip=cfg.INPUT.FLIP,
        interpolation=cfg.INPUT.INTERPOLATION,
    )


def source_records(cfg: CfgNode, space: LabelSpace) -> SegmentationDataset:
    """The labeled source, whole."""
    root = data_root(cfg.DATASETS.ROOT)
    return resolve_segmentation(_name(cfg, "TRAIN"), root, space=space, labeled=True)


def source_dataset(cfg: CfgNode, space: LabelSpace) -> SlotDataset:
    """The labeled source that is trained on."""
    records = source_records(cfg, space)
    if cfg.SELECTION.METHOD != "none":
        records, _ = hold_out(records, cfg.SELECTION.HELD_OUT, cfg.SEED)
    return _slot_dataset(cfg, Domain.SOURCE, records, space=space)


def target_dataset(cfg: CfgNode, pseudo_labels: Path | None = None) -> SlotDataset:
    """The target without its labels.

    Args:
        pseudo_labels: folder of a self-training round.
    """
    root = data_root(cfg.DATASETS.ROOT)
    records = resolve_segmentation(_name(cfg, "TARGET"), root, space=None, labeled=False)
    return _slot_dataset(cfg, Domain.TARGET, records, pseudo_labels=pseudo_labels)


def selection_from_config(
    cfg: CfgNode, space: LabelSpace, target: SlotDataset, path: Path, device: torch.device
) -> Selection | None:
    """What chooses the snapshot that a stage ends with; None takes the last one."""
    if cfg.SELECTION.METHOD == "none":
        return None
    _, held_out = hold_out(source_records(cfg, space), cfg.SELECTION.HELD_OUT, cfg.SEED)
    images = StylizedImages(
        held_out,
        target.dataset,
        space,
        betas=cfg.SELECTION.BETAS,
        resize=network_size(cfg, "TEST"),
        interpolation=cfg.INPUT.INTERPOLATION,
        seed=cfg.SEED,
    )
    return Selection(
        path,
        images,
        device=device,
        windows=Windows.from_config(cfg),
        workers=cfg.DATALOADER.NUM_WORKERS,
    )


def _name(cfg: CfgNode, key: str) -> str:
    if not cfg.DATASETS[key]:
        raise UserError(
            f"DATASETS.{key} is empty: name a dataset of the catalog, e.g. gta5, or your own "
            "(docs/own_data.md)"
        )
    return cfg.DATASETS[key]


def _slot_dataset(
    cfg: CfgNode,
    domain: Domain,
    records: SegmentationDataset,
    *,
    space: LabelSpace | None = None,
    pseudo_labels: Path | None = None,
) -> SlotDataset:
    return SlotDataset(
        records,
        transform_from_config(cfg, domain),
        domain=domain,
        seed=cfg.SEED,
        space=space,
        cache=Path(cfg.DATASETS.CACHE).expanduser() if cfg.DATASETS.CACHE else None,
        pseudo_labels=pseudo_labels,
    )


def batch_plan(cfg: CfgNode, rank: int, world_size: int) -> BatchPlan:
    """UserError where the micro-batches cannot be divided among the processes."""
    return BatchPlan(
        share("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH, 1),
        share("SOLVER.ACCUMULATE", cfg.SOLVER.ACCUMULATE, world_size),
        rank,
        world_size,
    )


def loader_from_config(
    cfg: CfgNode, source: SlotDataset, target: SlotDataset | None, start: int, stop: int
) -> PairedLoader:
    plan = batch_plan(cfg, distributed.rank(), distributed.world_size())
    return PairedLoader(
        source,
        target,
        plan,
        start=start,
        stop=stop,
        workers=cfg.DATALOADER.NUM_WORKERS,
        timeout=cfg.DATALOADER.TIMEOUT,
    )
