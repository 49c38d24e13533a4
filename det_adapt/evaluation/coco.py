"""Box and mask AP by pycocotools, from records and detections in memory.

Things that are ignored, difficult ones and groups, are COCO crowds: a detection that lies in one by
the threshold counts neither way, however many there are.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from det_adapt.evaluation.base import Evaluation, mean_or_none
from det_adapt.structures import Detections
from shared.data.cityscapes import read_instance_ids
from shared.data.records import DetectionDataset, DetectionRecord
from shared.errors import UserError

_KINDS = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True)
class _Frame:
    """Of one frame, in COCO's words, but for the ids."""

    size: tuple[int, int]  # height, width
    truths: list[dict]
    found: list[dict]


class COCOEvaluation(Evaluation[_Frame]):
    """AP over the overlaps 0.5, 0.55, …, 0.95, at most 100 detections of a class in a frame.

    Args:
        masks: also the AP of masks; the true ones come from the records' instance PNGs.
    """

    def __init__(self, dataset: DetectionDataset, masks: bool = False) -> None:
        super().__init__(dataset)
        if masks and any(record.instances is None for record in dataset.records):
            raise UserError(
                f"data set '{dataset.name}' has boxes only, expected instance PNGs for the AP of "
                "masks; evaluate boxes, or name a Cityscapes data set"
            )
        self.masks = masks

    def scores(self) -> dict:
        """`box` and, with masks, `mask`: by class `ap` and `ap50`; `map`, `map50` and `map75`."""
        frames = self._all()
        with redirect_stdout(io.StringIO()):
            truths = _index(frames, [f.truths for f in frames], self.dataset.classes)
            found = _index(frames, [f.found for f in frames], self.dataset.classes)
            kinds = _KINDS if self.masks else {"box": _KINDS["box"]}
            precisions = {kind: _precision(truths, found, how) for kind, how in kinds.items()}
        return {kind: self._summary(precision) for kind, precision in precisions.items()}

    def _summary(self, precision: np.ndarray) -> dict:
        """
        Args:
            precision: (10 overlaps, 101 recalls, C); -1 throughout for a class without truth.
        """

        def by_class(overlaps: slice) -> dict[str, float | None]:
            means = precision[overlaps].mean(axis=(0, 1)).tolist()
            return {
                name: None if mean < 0 else mean
                for name, mean in zip(self.dataset.classes, means, strict=True)
            }

        scores = {"ap": by_class(slice(None)), "ap50": by_class(slice(0, 1))}
        return scores | {
            "map": mean_or_none(scores["ap"].values()),
            "map50": mean_or_none(scores["ap50"].values()),
            "map75": mean_or_none(by_class(slice(5, 6)).values()),
        }

    def _keep(self, record: DetectionRecord, detections: Detections) -> _Frame:
        if self.masks and detections.masks is None:
            raise UserError(
                f"detections of frame '{record.name}' have no masks; set MODEL.MASK_ON, or "
                "evaluate boxes only"
            )
        detections = detections.to("cpu")
        index_of = {name: i for i, name in enumerate(self.dataset.classes)}
        truths = [
            _thing(a.box, index_of[a.category], iscrowd=int(a.crowd or a.difficult))
            for a in record.annotations
        ]
        found = [
            _thing(box, index, score=score)
            for box, index, score in zip(
                detections.boxes.tolist(),
                detections.classes.tolist(),
                detections.scores.tolist(),
                strict=True,
            )
        ]
        if self.masks:
            # Column after column, as RLE counts: each mask of it is encoded without a copy.
            ids = np.asfortranarray(read_instance_ids(record.instances))
            for truth, annotation in zip(truths, record.annotations, strict=True):
                truth["segmentation"] = encode(ids == annotation.instance)
            for thing, mask in zip(found, detections.masks.numpy(), strict=True):
                thing["segmentation"] = encode(mask)
        return _Frame((record.height, record.width), truths, found)


def encode(mask: np.ndarray) -> dict:
    """COCO's run-length code of an (H, W) bool mask."""
    return rle.encode(np.asfortranarray(mask).view(np.uint8))


def _thing(box: Sequence[float], index: int, **more: float) -> dict:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    return {
        "category_id": index,
        "bbox": [x1, y1, width, height],
        "area": width * height,
        "iscrowd": 0,
        **more,
    }


def _index(frames: Sequence[_Frame], things: Sequence[list[dict]], classes: Sequence[str]) -> COCO:
    """What pycocotools would have read from files."""
    annotations = [
        {**thing, "image_id": image} for image, of_frame in enumerate(things) for thing in of_frame
    ]
    # From 1 on: COCOeval takes the id 0 for "no match".
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": i, "height": f.size[0], "width": f.size[1]} for i, f in enumerate(frames)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _precision(truths: COCO, found: COCO, how: str) -> np.ndarray:
    """(10 overlaps, 101 recalls, C)."""
    run = COCOeval(truths, found, how)
    # Areas of things would be masks' in one kind and boxes' in the other; nobody reports by them.
    run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
    run.params.maxDets = [100]
    run.evaluate()
    run.accumulate()
    return run.eval["precision"][:, :, :, 0, 0]
