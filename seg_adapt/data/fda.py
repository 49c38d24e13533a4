"""Images in the style of others: Yang & Soatto, "FDA: Fourier Domain Adaptation for Semantic
Segmentation", CVPR 2020."""

import math

import torch
from torch import Tensor

from shared.errors import UserError


def swap_amplitude(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """The source with the target's amplitude at low frequencies; its own phase everywhere (Eq. 3).

    Low are the frequencies (u, v), in cycles per image, with |u|, |v| ≤ ⌊β · min(H, W)⌋, as in the
    released code. At β = 0 nothing is swapped, not even the mean.

    Args:
        source, target: real (…, H, W).
        beta: 0 to 1; everything is swapped where β · min(H, W) reaches half of both sizes.
    """
    if source.shape != target.shape:
        raise UserError(
            f"the amplitudes of maps {tuple(source.shape)} and {tuple(target.shape)} cannot be "
            "swapped: resize one to the other"
        )
    if not 0 <= beta <= 1:
        raise UserError(f"beta of the amplitude swap is {beta}, expected a share from 0 to 1")
    if beta == 0:
        return source.clone()
    height, width = source.shape[-2:]
    reach = math.floor(beta * min(height, width))
    # A real image's spectrum is symmetric: half of it is enough, and the window keeps the symmetry.
    spectrum, style = torch.fft.rfft2(source), torch.fft.rfft2(target)
    rows = torch.fft.fftfreq(height, 1 / height, device=source.device).abs() <= reach
    columns = torch.fft.rfftfreq(width, 1 / width, device=source.device) <= reach
    swapped = torch.polar(style.abs(), spectrum.angle())
    spectrum = torch.where(rows[:, None] & columns, swapped, spectrum)
    return torch.fft.irfft2(spectrum, s=(height, width))


def stylize(image: Tensor, style: Tensor, beta: float) -> Tensor:
    """`image` in the style of `style`: uint8 RGB (3, H, W) each, of one size; rounded, clipped."""
    swapped = swap_amplitude(image.float(), style.float(), beta)
    return swapped.round().clamp(0, 255).to(torch.uint8)
