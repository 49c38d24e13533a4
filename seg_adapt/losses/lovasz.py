"""Lovász-softmax: Berman, Rannen Triki & Blaschko, CVPR 2018. Equation numbers are the paper's."""

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, labels: Tensor, ignore: int = 255) -> Tensor:
    """Eq. 11 over the classes that are present: a surrogate of the mean of 1 − IoU over classes.

    Pixels are pooled over the batch. Memory beside the gradient is linear in pixels × classes.

    Args:
        probabilities: (N, C, H, W), softmax over C.
        labels: (N, H, W) train ids.
        ignore: the label of pixels that count for nothing.

    Returns:
        0-dim loss; 0 with a graph where every pixel is ignored.
    """
    labeled = labels != ignore
    labels = labels[labeled]
    present = labels.unique().tolist()
    if not present:
        return probabilities.sum() * 0.0
    total = 0.0
    for label in present:
        confidence = probabilities[:, label][labeled]
        foreground = labels == label
        errors = torch.where(foreground, 1 - confidence, confidence)
        total = total + (errors * _jaccard_steps(errors.detach(), foreground)).sum()
    return total / len(present)


def _jaccard_steps(errors: Tensor, foreground: Tensor) -> Tensor:
    """What each pixel adds to the Jaccard loss when pixels turn wrong by descending error: Eq. 9.

    Constant between changes of the order, hence without a gradient.

    Args:
        errors, foreground: (P,), at least one pixel of the foreground.
    """
    order = errors.argsort(descending=True)
    hits = foreground[order].cumsum(0)
    wrong = torch.arange(1, len(order) + 1, device=errors.device)
    # Counts are whole numbers and neighboring losses nearly equal: float32 would round both away.
    loss = 1 - (hits[-1] - hits).double() / (hits[-1] + wrong - hits)
    steps = torch.diff(loss, prepend=loss.new_zeros(1))
    return torch.empty_like(errors).scatter_(0, order, steps.to(errors.dtype))
