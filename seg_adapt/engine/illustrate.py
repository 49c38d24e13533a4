"""The pictures of a run: panels of predictions, and what the method itself shows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode

from seg_adapt.data.dataset import SlotDataset, collate, read_pair
from seg_adapt.data.transforms import resize_image
from seg_adapt.engine.evaluate import evaluating, prediction_path
from seg_adapt.engine.stages import Kind, StagePlan
from seg_adapt.evaluation.inference import network_size
from seg_adapt.methods.base import Method
from shared.catalog import SegmentationDataset
from shared.errors import UserError
from shared.images import read_labels, remap, write_png
from shared.label_maps import LabelSpace, encode_colors, lookup_table
from shared.pictures import evenly_spaced, panel, to_array

PANEL_HEIGHT = 256


class Album:
    """The pictures of one run, and where its predictions lie.

    Args:
        folder: of the run; gets `panels/` and `pictures/`.
        test: what panels show; None: nothing is scored, and there are none.
        baseline: run whose predictions are the "before" column.
        compared: other runs whose predictions are columns.
    """

    def __init__(
        self,
        folder: Path,
        cfg: CfgNode,
        space: LabelSpace,
        test: SegmentationDataset | None,
        device: torch.device,
        *,
        baseline: Path | None = None,
        compared: Sequence[Path] = (),
    ) -> None:
        self.folder = folder
        self.cfg = cfg
        self.space = space
        self.test = test
        self.device = device
        self.baseline = baseline
        self.compared = tuple(compared)

    @property
    def predictions(self) -> Path:
        """Folder of the final predictions."""
        return self.folder / "predictions"

    def stage_predictions(self, stage: StagePlan) -> Path:
        """Folder of the predictions at the end of a stage."""
        return self.folder / f"predictions_{stage.name}"

    def write(
        self,
        method: Method,
        source: SlotDataset,
        target: SlotDataset | None,
        stages: Sequence[StagePlan],
    ) -> dict[str, np.ndarray]:
        """Draws everything; name to picture, (H, W, 3) uint8 RGB."""
        with evaluating(method):
            pictures = {} if target is None else self._of_training(method, source, target)
            if self.test is not None:
                pictures |= self._panels(method, self._columns(stages))
        return pictures

    def _of_training(
        self, method: Method, source: SlotDataset, target: SlotDataset
    ) -> dict[str, np.ndarray]:
        """What the method shows of its first training samples."""
        # As many as training put into a batch: images of different sizes do not fit into one.
        count = min(2, self.cfg.SOLVER.IMS_PER_BATCH)
        batches = []
        for dataset in (source, target):
            batch = collate([dataset[slot] for slot in range(count)])
            if isinstance(batch, UserError):
                raise batch
            batches.append(batch.to(self.device))
        pictures = method.pictures(*batches)
        for name, picture in pictures.items():
            write_png(self.folder / "pictures" / f"{name}.png", picture)
        return pictures

    def _columns(self, stages: Sequence[StagePlan]) -> dict[str, Path]:
        """Title to folder of the predictions that a panel shows side by side."""
        columns = {}
        if self.baseline is not None and (self.baseline / "predictions").is_dir():
            columns[f"before ({self.baseline.name})"] = self.baseline / "predictions"
        columns |= {run.name: run / "predictions" for run in self.compared}
        for stage in stages[:-1]:
            folder = self.stage_predictions(stage)
            first = stage.kind is Kind.SOURCE_STAGE and not columns
            if (stage.kind is Kind.METHOD or first) and folder.is_dir():
                columns[f"{self.cfg.METHOD}: {stage.name}"] = folder
        return columns | {self.cfg.METHOD: self.predictions}

    def _panels(self, method: Method, columns: dict[str, Path]) -> dict[str, np.ndarray]:
        """Panels input | truth | what the method shows | predictions…, over the test images."""
        test, space = self.test, self.space
        table = lookup_table(test.id_table, space)
        written = np.arange(256, dtype=np.uint8)
        if space.label_ids is not None:
            written = lookup_table("cityscapes", space)
        panels = {}
        for record in evenly_spaced(test.records, self.cfg.TEST.PICTURES):
            image, labels = read_pair(record, test.encoding, table)
            tiles = {
                "input": to_array(image),
                "ground truth": encode_colors(labels, space),
            }
            size = network_size(self.cfg, "TEST") or tuple(image.shape[-2:])
            seen = resize_image(image, size, self.cfg.INPUT.INTERPOLATION)[None].to(self.device)
            tiles |= {title: shown[0] for title, shown in method.columns(seen).items()}
            for title, predictions in columns.items():
                predicted = read_labels(prediction_path(predictions, record.name), "index")
                tiles[title] = encode_colors(remap(predicted, written), space)
            panels[record.name] = panel(list(tiles.values()), list(tiles), height=PANEL_HEIGHT)
            write_png(self.folder / "panels" / f"{record.name}.png", panels[record.name])
        return panels
