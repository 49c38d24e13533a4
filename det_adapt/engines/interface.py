"""What an engine supplies: a detector's losses, features and detections. All else exists once."""

from typing import Protocol

from det_adapt.structures import Detections, Losses, Maps, Sample


class Detector(Protocol):
    """A detector of either engine; a `torch.nn.Module` as well.

    Images are normalised and batched inside. Both domains go through the same backbone and RPN
    head, of which no parameter is toggled.
    """

    feature_channels: int  # Ĉ
    anchors: int  # A, per cell
    lower_channels: int | None  # C of SAP.LOWER.FEATURE; None where that is empty

    def source(self, samples: list[Sample]) -> tuple[Losses, Maps]:
        """Training mode. The task's losses: loss_rpn_cls, loss_rpn_loc, loss_cls, loss_box_reg,
        and loss_mask with masks."""
        ...

    def target(self, samples: list[Sample]) -> Maps:
        """Training mode. Backbone and RPN head only: no proposals, no boxes, no annotation."""
        ...

    def detect(self, samples: list[Sample]) -> list[Detections]:
        """Evaluation mode. Boxes and masks in pixels of the files."""
        ...
