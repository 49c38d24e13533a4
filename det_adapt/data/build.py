"""Data sets and loaders of a run, from its config."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from fvcore.common.config import CfgNode

from det_adapt.config import adapts, seed
from det_adapt.data.loaders import SlotDataset
from det_adapt.data.samples import Augmentation
from det_adapt.structures import Sample
from shared.data.folders import data_root
from shared.data.own import resolve_detection
from shared.data.records import DetectionDataset
from shared.domain_losses import Domain
from shared.errors import UserError
from shared.slots import BatchPlan, PairedLoader, share


def train_augmentation(cfg: CfgNode) -> Augmentation:
    """Sizes and flips of training, the same for both domains."""
    return Augmentation(
        tuple(cfg.INPUT.MIN_SIZE_TRAIN),
        cfg.INPUT.MAX_SIZE_TRAIN,
        flip=0.5 if cfg.INPUT.RANDOM_FLIP == "horizontal" else 0.0,
        is_range=cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
    )


def test_augmentation(cfg: CfgNode) -> Augmentation:
    """Only the size; nothing is drawn."""
    return Augmentation((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST)


def classes_of(cfg: CfgNode) -> list[str]:
    """DATASETS.CLASSES; where that is empty, those of DATASETS.TRAIN."""
    return list(cfg.DATASETS.CLASSES or source_dataset(cfg).classes)


def source_dataset(cfg: CfgNode) -> DetectionDataset:
    """DATASETS.TRAIN, its annotations read."""
    return _joined(cfg, "DATASETS.TRAIN", cfg.DATASETS.TRAIN, labeled=True)


def target_dataset(cfg: CfgNode) -> DetectionDataset:
    """DATASETS.TARGET; no annotation file is opened."""
    return _joined(cfg, "DATASETS.TARGET", cfg.DATASETS.TARGET, labeled=False)


class TrainLoader(Iterable[tuple[list[Sample], list[Sample] | None]]):
    """This process's (source, target) samples of every forward from the iteration `start` on,
    SOLVER.ACCUMULATE of them an iteration.

    Without an adversary there is no target. What is missing is named here, not in the first
    iteration; `start` may be changed until then.

    Attributes:
        samples: of both domains, those of the iteration that is trained.
    """

    def __init__(self, cfg: CfgNode, *, start: int = 0, rank: int = 0, world_size: int = 1) -> None:
        augmentation = train_augmentation(cfg)
        source = SlotDataset(
            source_dataset(cfg),
            augmentation,
            domain=Domain.SOURCE,
            seed=seed(cfg),
            masks=cfg.MODEL.MASK_ON,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_size=cfg.DATASETS.MIN_BOX_SIZE,
        )
        _check_classes(cfg, source.classes)
        target = None
        if adapts(cfg):
            target = SlotDataset(
                target_dataset(cfg), augmentation, domain=Domain.TARGET, seed=seed(cfg)
            )
        images = share("SOLVER.IMS_PER_BATCH", cfg.SOLVER.IMS_PER_BATCH, world_size)
        self.start = start
        self.samples: list[Sample] = []
        self._from = partial(
            PairedLoader,
            source,
            target,
            BatchPlan(images, cfg.SOLVER.ACCUMULATE, rank=rank, world_size=world_size),
            stop=cfg.SOLVER.MAX_ITER,
            workers=cfg.DATALOADER.NUM_WORKERS,
            timeout=cfg.DATALOADER.TIMEOUT,
        )

    def __iter__(self) -> Iterator[tuple[list[Sample], list[Sample] | None]]:
        for forwards in self._from(start=self.start):
            pairs = [(source, target) for _, source, target in forwards]
            self.samples = [sample for pair in pairs for each in pair for sample in each or ()]
            yield from pairs


def _joined(cfg: CfgNode, key: str, names: Sequence[str], *, labeled: bool) -> DetectionDataset:
    """The data sets of several names as one, their records in the order of the names."""
    if not names:
        hint = " or set SAP.ENABLED and DA_FASTER.ENABLED False" if key == "DATASETS.TARGET" else ""
        raise UserError(f"{key} is empty: name a data set, e.g. ('cityscapes_det_train',){hint}")
    root = data_root(cfg.DATASETS.ROOT)
    # Of a target no box is read: it may well have other classes.
    classes = (list(cfg.DATASETS.CLASSES) or None) if labeled else None
    parts = [resolve_detection(n, root, labeled=labeled, classes=classes) for n in names]
    first = parts[0]
    for part in parts[1:]:
        if labeled and part.classes != first.classes:
            raise UserError(
                f"{key}: '{first.name}' has the classes {', '.join(first.classes)}, '{part.name}' "
                f"{', '.join(part.classes)}: set DATASETS.CLASSES to those of both"
            )
    records = tuple(record for part in parts for record in part.records)
    name = "+".join(part.name for part in parts)
    if not records:
        raise UserError(f"{key}: {name} has no images")
    official = first.official_root if len(parts) == 1 else None
    return DetectionDataset(name, records, first.classes, official)


def _check_classes(cfg: CfgNode, classes: Sequence[str]) -> None:
    if len(classes) != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
        raise UserError(
            f"MODEL.ROI_HEADS.NUM_CLASSES is {cfg.MODEL.ROI_HEADS.NUM_CLASSES}, but DATASETS.TRAIN "
            f"has {len(classes)} classes ({', '.join(classes)}): set it to {len(classes)}"
        )
