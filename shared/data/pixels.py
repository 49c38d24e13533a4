"""What the decoded files of one frame show to be wrong; runs in worker processes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.data.findings import Finding, Severity
from shared.data.images import read_image, read_labels
from shared.data.records import SegmentationRecord
from shared.errors import UserError

# JPEG noise around pure black and white.
_TOLERANCE = 8


@dataclass(frozen=True)
class FrameJob:
    dataset: str
    record: SegmentationRecord
    encoding: str


@dataclass(frozen=True)
class FrameReport:
    """One frame.

    Attributes:
        size: (height, width), None where the image cannot be read.
        histogram: (256,) int64 pixels per raw id, None where there is no readable label.
    """

    findings: tuple[Finding, ...]
    size: tuple[int, int] | None
    histogram: np.ndarray | None
    label: Path | None = None


def constant_color(image: np.ndarray) -> str:
    """How an image (H, W, 3) uint8 that shows nothing looks; "" for all others."""
    # Some of the pixels tell it of almost every image, in a fraction of the time.
    if np.ptp(image[::16, ::16], axis=(0, 1)).max() > _TOLERANCE:
        return ""
    if image.max() <= _TOLERANCE:
        return "all black"
    if image.min() >= 255 - _TOLERANCE:
        return "all white"
    if not np.ptp(image.reshape(-1, 3), axis=0).any():
        return "all of one colour"
    return ""


def check_image(dataset: str, path: Path) -> tuple[list[Finding], tuple[int, int] | None]:
    """Findings and (height, width)."""
    try:
        image = read_image(path).permute(1, 2, 0).numpy()
    except UserError as error:
        return [Finding(Severity.ERROR, dataset, str(error))], None
    constant = constant_color(image)
    findings = []
    if constant:
        message = f"image is {constant}; leave it out or download it again"
        findings.append(Finding(Severity.WARNING, dataset, message, path))
    return findings, image.shape[:2]


def check_frame(job: FrameJob) -> FrameReport:
    """Decodes a frame's image and label, and compares them."""
    findings, size = check_image(job.dataset, job.record.image)
    path = job.record.label
    if path is None:
        return FrameReport(tuple(findings), size, None)
    try:
        labels = read_labels(path, job.encoding).numpy()
    except UserError as error:
        findings.append(Finding(Severity.ERROR, job.dataset, str(error)))
        return FrameReport(tuple(findings), size, None)
    if size is not None and labels.shape != size:
        message = (
            f"label is {labels.shape[1]}×{labels.shape[0]}, its image {size[1]}×{size[0]}: they do "
            "not belong together"
        )
        findings.append(Finding(Severity.ERROR, job.dataset, message, path))
    histogram = np.bincount(labels.ravel(), minlength=256)
    return FrameReport(tuple(findings), size, histogram, path)
