import numpy as np
import pytest
import torch

from seg_adapt.data.transforms import JointTransform, resize_image, resize_labels
from seg_adapt.models.region_discriminators import region_index
from shared.errors import UserError


def coordinate_image(height: int, width: int) -> torch.Tensor:
    """Red is 2.5 · row, green 2.5 · column: every pixel says where it was."""
    rows = (2.5 * (torch.arange(height) + 0.5)).expand(width, height).T
    columns = (2.5 * (torch.arange(width) + 0.5)).expand(height, width)
    return torch.stack([rows, columns, torch.zeros(height, width)]).round().to(torch.uint8)


def test_geometry_finds_the_original_place_of_every_pixel():
    height, width = 80, 100
    transform = JointTransform(scales=(0.5, 1.5), crop=(48, 40), flip=0.5, interpolation="bilinear")
    image = coordinate_image(height, width)
    flips = 0
    for seed in range(40):
        crop, _, geometry = transform(image, None, np.random.default_rng(seed))
        batched = type(geometry)(**{k: v[None] for k, v in vars(geometry).items()})
        rows = batched.rows(torch.arange(40.0))[0]
        columns = batched.columns(torch.arange(48.0))[0]
        inside_y, inside_x = (rows > 1) & (rows < height - 1), (columns > 1) & (columns < width - 1)
        flipped = crop[1][inside_y][:, inside_x].float().diff(dim=1).mean() < 0
        flips += int(flipped)
        original_columns = width - columns if flipped else columns
        got = crop[:2].float() / 2.5
        expected = torch.stack(torch.meshgrid(rows, original_columns, indexing="ij"))
        error = (got - expected).abs()[:, inside_y][:, :, inside_x]
        assert error.max() < 0.75, seed  # rounding to uint8 and interpolation
    assert 10 < flips < 30


def test_every_activation_falls_into_the_region_of_its_original_position():
    """The image carries its own regions; a flip acts on the whole image first."""
    height, width, grid = 90, 120, (3, 3)
    row = (torch.arange(height) * 3 // height)[:, None].expand(height, width)
    column = (torch.arange(width) * 3 // width)[None].expand(height, width)
    transform = JointTransform(scales=(0.6, 1.6), crop=(65, 49), flip=0.5)
    for seed in range(60):
        # Labels are resized by the nearest neighbor: they hold the true region of each pixel,
        # in the unflipped image.
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        _, truth, geometry = transform(image, row * 3 + column, np.random.default_rng(seed))
        generator = np.random.default_rng(seed)
        flipped = generator.random() < 0.5
        batched = type(geometry)(**{k: v[None] for k, v in vars(geometry).items()})
        stride = 8
        regions = region_index(
            batched.rows(stride * torch.arange(7.0)),
            batched.columns(stride * torch.arange(9.0)),
            batched.height,
            batched.width,
            grid,
        )[0]
        expected = truth[::stride, ::stride].clone()
        padding = expected == 255
        if flipped:
            expected = expected // 3 * 3 + 2 - expected % 3
        expected[padding] = -1
        assert torch.equal(regions, expected), seed


def test_padding_is_black_and_ignored():
    image = torch.full((3, 10, 12), 200, dtype=torch.uint8)
    labels = torch.ones(10, 12, dtype=torch.uint8)
    crop, cropped, geometry = JointTransform(crop=(16, 14))(image, labels, np.random.default_rng(0))
    assert crop.shape == (3, 14, 16) and cropped.shape == (14, 16)
    assert crop[:, :10, :12].eq(200).all() and crop[:, 10:].eq(0).all()
    assert cropped[:, 12:].eq(255).all() and cropped[:10, :12].eq(1).all()
    assert (geometry.top, geometry.left) == (0, 0)


def test_image_and_labels_stay_together():
    labels = torch.randint(0, 19, (40, 60), dtype=torch.uint8)
    image = labels.expand(3, 40, 60).contiguous()
    transform = JointTransform(crop=(20, 20), flip=0.5)
    for seed in range(5):
        crop, cropped, _ = transform(image, labels, np.random.default_rng(seed))
        assert torch.equal(crop[0], cropped)


def test_resize_is_antialiased_and_of_the_right_size():
    checkerboard = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    image = checkerboard.to(torch.uint8).expand(3, 64, 64).contiguous()
    small = resize_image(image, (16, 16))
    assert small.float().sub(127.5).abs().max() < 3
    assert resize_image(image, (64, 64)) is image
    labels = torch.arange(4, dtype=torch.uint8).repeat_interleave(4).expand(16, 16)
    assert torch.equal(resize_labels(labels, (4, 4)), torch.arange(4).to(torch.uint8).expand(4, 4))


def test_fixed_size_then_scale():
    transform = JointTransform(resize=(50, 30), scales=(2.0, 2.0))
    image = torch.zeros(3, 60, 200, dtype=torch.uint8)
    resized, _, geometry = transform(image, None, np.random.default_rng(0))
    assert resized.shape == (3, 60, 100)
    assert (geometry.scale_y.item(), geometry.scale_x.item()) == (1.0, 0.5)
    assert (geometry.height.item(), geometry.width.item()) == (60, 200)


def test_one_pixel_image():
    image = torch.zeros(3, 1, 1, dtype=torch.uint8)
    crop, _, _ = JointTransform(scales=(0.5, 0.5), crop=(3, 2))(
        image, None, np.random.default_rng(0)
    )
    assert crop.shape == (3, 2, 3)


def test_refuses_impossible_scales():
    with pytest.raises(UserError, match="scales"):
        JointTransform(scales=(1.5, 0.5))
