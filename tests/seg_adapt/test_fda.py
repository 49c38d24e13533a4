import numpy as np
import pytest
import torch

from seg_adapt.data.fda import stylize, swap_amplitude
from shared.errors import UserError


def reference(source, target, beta):
    """The whole spectrum in NumPy, zero frequency in the middle, one window cut out of it."""
    height, width = source.shape[-2:]
    spectrum = np.fft.fftshift(np.fft.fft2(source), axes=(-2, -1))
    style = np.fft.fftshift(np.fft.fft2(target), axes=(-2, -1))
    amplitude, phase = np.abs(spectrum), np.angle(spectrum)
    reach = int(np.floor(beta * min(height, width)))
    rows = slice(max(height // 2 - reach, 0), height // 2 + reach + 1)
    columns = slice(max(width // 2 - reach, 0), width // 2 + reach + 1)
    amplitude[..., rows, columns] = np.abs(style)[..., rows, columns]
    mixed = np.fft.ifftshift(amplitude * np.exp(1j * phase), axes=(-2, -1))
    mixed = np.fft.ifft2(mixed)
    return mixed


def noise(seed, *shape):
    return np.random.default_rng(seed).uniform(0, 255, shape)


@pytest.mark.parametrize("size", [(16, 24), (17, 24), (24, 17), (17, 23)])
@pytest.mark.parametrize("beta", [0.01, 0.05, 0.09, 0.3, 0.5, 0.9, 1.0])
def test_against_the_full_spectrum(size, beta):
    source, target = noise(0, 3, *size), noise(1, 3, *size)
    expected = reference(source, target, beta)
    found = swap_amplitude(torch.from_numpy(source), torch.from_numpy(target), beta)
    # Not real: at 0.5 and even sizes the window would reach one end of the spectrum alone, were
    # these not the same frequency.
    assert np.abs(expected.imag).max() < 1e-9
    np.testing.assert_allclose(found.numpy(), expected.real, atol=1e-9)


def test_no_share_is_the_image_and_the_smallest_window_its_mean():
    source, target = torch.from_numpy(noise(0, 3, 8, 9)), torch.from_numpy(noise(1, 3, 8, 9))
    assert torch.equal(swap_amplitude(source, target, 0), source)
    shift = (target.mean((1, 2)) - source.mean((1, 2)))[:, None, None]
    torch.testing.assert_close(swap_amplitude(source, target, 0.01), source + shift)


def test_everything_swapped_has_the_targets_amplitude_and_the_sources_phase():
    source, target = noise(0, 12, 20), noise(1, 12, 20)
    mixed = swap_amplitude(torch.from_numpy(source), torch.from_numpy(target), 1.0).numpy()
    np.testing.assert_allclose(np.abs(np.fft.fft2(mixed)), np.abs(np.fft.fft2(target)), rtol=1e-9)
    turn = np.fft.fft2(mixed) * np.conj(np.fft.fft2(source))
    np.testing.assert_allclose(np.angle(turn), 0, atol=1e-6)


def test_images_are_rounded_and_clipped():
    generator = torch.Generator().manual_seed(0)
    image, style = torch.randint(0, 256, (2, 3, 24, 40), generator=generator, dtype=torch.uint8)
    style[:] = style // 2 + 120
    expected = reference(image.numpy().astype(float), style.numpy().astype(float), 0.09).real
    assert expected.max() > 256 or expected.min() < -1
    found = stylize(image, style, 0.09)
    assert found.dtype == torch.uint8 and found.shape == image.shape
    difference = np.abs(found.numpy() - np.clip(expected, 0, 255))
    assert difference.max() <= 0.5 + 1e-3
    assert torch.equal(stylize(image, style, 0.0), image)
    assert torch.equal(stylize(image, image, 0.3), image)


def test_black_image_takes_the_brightness():
    black, gray = torch.zeros(3, 8, 8, dtype=torch.uint8), torch.full((3, 8, 8), 90).byte()
    assert torch.equal(stylize(black, gray, 0.1), gray)


def test_wrong_input():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match="resize one"):
        stylize(image, image[..., :4], 0.1)
    for beta in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match="share from 0 to 1"):
            stylize(image, image, beta)
