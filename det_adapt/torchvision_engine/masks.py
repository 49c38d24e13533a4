"""Instance masks: what a region's mask is trained towards, and how it is drawn into an image."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

THRESHOLD = 0.5  # of a cell's covered share in training, of a pixel's probability in a drawing


def mask_loss(
    logits: Tensor,
    classes: Tensor,
    boxes: list[Tensor],
    instances: list[Tensor],
    masks: list[Tensor],
) -> Tensor:
    """Binary cross-entropy of each region's mask of its true class, mean over cells.

    Args:
        logits: (R, C, M, M).
        classes: (R,) int64 in [0, C).
        boxes: per image (n, 4), the regions in pixels, Σn = R.
        instances: per image (n,), the true instance of each region.
        masks: per image (m, h, w) bool.

    Returns:
        0-dim; 0, with a graph, without regions.
    """
    if not len(logits):
        return logits.sum()
    true_masks = [
        region_masks(own, of_image[:, None], each, logits.shape[-1])
        for own, of_image, each in zip(masks, instances, boxes, strict=True)
        if len(each)
    ]
    own_class = logits[torch.arange(len(logits), device=logits.device), classes]
    return F.binary_cross_entropy_with_logits(own_class, torch.cat(true_masks).to(logits.dtype))


def region_masks(masks: Tensor, instances: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """(n, M, M) bool: cells of each box of which the instance covers half or more.

    Args:
        masks: (m, h, w) bool. instances: (n, 1) of them. boxes: (n, 4) in pixels.
    """
    regions = torch.cat([instances.to(boxes.dtype), boxes], dim=1)
    covered = roi_align(
        masks[:, None].to(boxes.dtype), regions, resolution, sampling_ratio=0, aligned=True
    )
    return covered[:, 0] >= THRESHOLD


def draw_masks(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, height, width) bool: each box's mask, interpolated bilinearly at the pixels' centers.

    Args:
        probabilities: (n, M, M) over the box. boxes: (n, 4) in pixels of an image of `size`.
    """
    height, width = size
    drawn = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=boxes.device)
    for mask, box, canvas in zip(probabilities, boxes, drawn, strict=True):
        left, top = (int(edge) for edge in box[:2].floor().clamp(min=0))
        right, bottom = (int(edge) for edge in box[2:].ceil())
        x1, y1, x2, y2 = box
        columns = torch.arange(left, min(right, width), device=box.device) + 0.5
        rows = torch.arange(top, min(bottom, height), device=box.device) + 0.5
        # -1 and 1 are the box's edges.
        across = (columns - x1) / (x2 - x1) * 2 - 1
        down = (rows - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
        values = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        canvas[top:bottom, left:right] = values >= THRESHOLD
    return drawn
