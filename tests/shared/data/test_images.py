import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.images import image_size, read_image, read_labels, remap, write_png
from shared.data.label_maps import CAMVID_COLORS, IGNORE, encode_colors, lookup_table
from shared.errors import MissingFileError, UserError

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, depth, color_type, rows, palette=None):
    """A PNG assembled chunk by chunk, so that no library decides how samples are stored."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", bytes(palette)) if palette else b"",
            _chunk(b"IDAT", pixels),
            _chunk(b"IEND", b""),
        ]
    )


def synthia_pixels(*class_and_instance):
    return b"".join(struct.pack(">3H", c, i, 0) for c, i in class_and_instance)


@pytest.fixture
def write(tmp_path):
    def write(data, name="label.png"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_read_image_of_every_kind(write):
    rgb = [[1, 2, 3], [200, 100, 0]]
    kinds = {
        "rgb": png(2, 8, RGB, [bytes([1, 2, 3, 200, 100, 0])]),
        "alpha": png(2, 8, RGB_ALPHA, [bytes([1, 2, 3, 0, 200, 100, 0, 255])]),
        "palette": png(2, 8, PALETTE, [bytes([1, 0])], [200, 100, 0, 1, 2, 3]),
        "palette of 4 bits": png(2, 4, PALETTE, [bytes([0x10])], [200, 100, 0, 1, 2, 3]),
        "16 bits": png(
            2, 16, RGB, [struct.pack(">6H", *(256 * v + 77 for v in [*rgb[0], *rgb[1]]))]
        ),
    }
    for kind, data in kinds.items():
        image = read_image(write(data))
        assert image.dtype == torch.uint8, kind
        assert image.permute(1, 2, 0).tolist() == [rgb], kind
    for data in (
        png(2, 8, GRAY, [bytes([5, 9])]),
        png(2, 16, GRAY, [bytes([5, 200, 9, 0])]),
        png(2, 8, GRAY_ALPHA, [bytes([5, 0, 9, 1])]),
    ):
        assert read_image(write(data)).tolist() == [[[5, 9]]] * 3


def test_jpeg_is_read_as_pillow_reads_it(tmp_path):
    picture = np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    expected = np.array(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").permute(1, 2, 0), expected)
    Image.fromarray(picture[..., 0]).save(tmp_path / "gray.jpg")
    gray = read_image(tmp_path / "gray.jpg")
    assert gray.shape == (3, 16, 24)
    assert torch.equal(gray[0], gray[2])


def test_damaged_and_missing_images(tmp_path, write):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for suffix in ("png", "jpg"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(noise).save(whole)
        data = whole.read_bytes()
        for end in (0, 5, 20, len(data) // 2, len(data) - 100):
            with pytest.raises(UserError, match="damaged or no image"):
                read_image(write(data[:end], f"cut.{suffix}"))
    flipped = bytearray((tmp_path / "whole.png").read_bytes())
    flipped[len(flipped) // 2] ^= 255
    with pytest.raises(UserError, match="damaged or no image"):
        read_image(write(flipped))
    with pytest.raises(UserError, match="damaged or no image"):
        read_image(write(b"not a picture at all", "text.png"))
    with pytest.raises(MissingFileError, match="no file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path)


def test_index_labels_of_every_kind(write):
    # Palette colors that are far from their indices: a reader that goes through color is caught.
    palette = [255 - v for v in range(3 * 40)]
    ids = [[0, 7, 33], [3, 1, 11]]
    rows = [bytes(row) for row in ids]
    assert read_labels(write(png(3, 8, GRAY, rows)), "index").tolist() == ids
    assert read_labels(write(png(3, 8, PALETTE, rows, palette)), "index").tolist() == ids
    nibbles = [bytes([0x07, 0xF0]), bytes([0x31, 0xB0])]
    labels = read_labels(write(png(3, 4, PALETTE, nibbles, palette[:48])), "index")
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[0, 7, 15], [3, 1, 11]]
    bits = [bytes([0b10100000])]
    assert read_labels(write(png(3, 1, PALETTE, bits, palette[:6])), "index").tolist() == [
        [1, 0, 1]
    ]


def test_index_refuses_what_is_not_an_index(tmp_path, write):
    refused = {
        "8-bit RGB PNG.*color picture": png(1, 8, RGB, [bytes(3)]),
        "RGB . alpha PNG.*color picture": png(1, 8, RGB_ALPHA, [bytes(4)]),
        "16-bit gray PNG.*instance ids": png(1, 16, GRAY, [bytes(2)]),
        "4-bit gray PNG.*8-bit gray": png(2, 4, GRAY, [bytes(1)]),
        "gray . alpha PNG.*8-bit gray": png(1, 8, GRAY_ALPHA, [bytes(2)]),
        "damaged or no image": png(9, 8, GRAY, [bytes(range(9))])[:50],
        "no PNG or cut short": png(1, 8, GRAY, [b"\1"])[:30],
        "no PNG or cut": b"\xff\xd8\xff",
    }
    for message, data in refused.items():
        with pytest.raises(UserError, match=message):
            read_labels(write(data), "index")
    with pytest.raises(MissingFileError, match="no file"):
        read_labels(tmp_path / "absent.png", "index")
    with pytest.raises(UserError, match=r"unknown label encoding 'indices'.*index"):
        read_labels(write(png(1, 8, GRAY, [b"\1"])), "indices")


def test_synthia_labels_take_the_class_from_red(write):
    path = write(png(3, 16, RGB, [synthia_pixels((3, 0), (22, 300), (0, 5))]))
    labels = read_labels(path, "synthia")
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [[3, 22, 0]]
    # What an 8-bit reader makes of the same file.
    assert not np.array(Image.open(path))[..., 0].any()
    for parsed in (
        png(2, 8, GRAY, [bytes([3, 22])]),
        png(2, 8, PALETTE, [bytes([3, 22])], [9] * 69),
    ):
        assert read_labels(write(parsed), "synthia").tolist() == [[3, 22]]


def test_synthia_refuses_the_silent_failures(write):
    with pytest.raises(UserError, match=r"nothing but class 0 \(void\)"):
        read_labels(write(png(2, 8, GRAY, [bytes(2)])), "synthia")
    with pytest.raises(UserError, match=r"nothing but class 0 \(void\)"):
        read_labels(write(png(2, 16, RGB, [synthia_pixels((0, 1), (0, 2))])), "synthia")
    with pytest.raises(UserError, match="not GT/COLOR"):
        read_labels(write(png(1, 8, RGB, [bytes([1, 2, 3])])), "synthia")
    whole = png(64, 16, RGB, [synthia_pixels(*((k, k) for k in range(64)))])
    with pytest.raises(UserError, match="damaged or no image"):
        read_labels(write(whole[: len(whole) // 2 + 20]), "synthia")
    with pytest.raises(UserError, match="class id 768 in its red channel"):
        read_labels(write(png(1, 16, RGB, [synthia_pixels((768, 1))])), "synthia")


def test_camvid_labels_are_colors(tmp_path):
    colors = list(CAMVID_COLORS)
    assert len(colors) == 32
    # None of them; off by one; two bits alike.
    others = [(255, 255, 255), (64, 128, 65), (64, 64, 64)]
    pixels = np.array([*colors, *others], np.uint8).reshape(5, 7, 3)
    write_png(tmp_path / "a_L.png", pixels)
    ids = read_labels(tmp_path / "a_L.png", "camvid")
    assert ids.dtype == torch.uint8
    assert ids.flatten().tolist() == [*range(32), IGNORE, IGNORE, IGNORE]


def test_camvid_refuses_other_files(tmp_path):
    path = tmp_path / "label.png"
    write_png(path, np.zeros((2, 2), np.uint8))
    with pytest.raises(UserError, match="8-bit gray PNG, 2×2, expected CamVid's 8-bit RGB"):
        read_labels(path, "camvid")
    write_png(path, np.full((2, 2, 3), 77, np.uint8))
    with pytest.raises(UserError, match="none of CamVid's colors: is it a photograph"):
        read_labels(path, "camvid")


def test_written_labels_and_pictures_are_read_back(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    write_png(tmp_path / "city" / "labels.png", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "city/labels.png", "index"), labels)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "city/labels.png")), labels)
    picture = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "city" / "labels.png", picture)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "city/labels.png")), picture)
    assert [p.name for p in (tmp_path / "city").iterdir()] == ["labels.png"]
    for wrong in (labels.astype(np.int64), labels[None], picture[..., :2]):
        with pytest.raises(UserError, match="expected uint8"):
            write_png(tmp_path / "wrong.png", wrong)
    assert not (tmp_path / "wrong.png").exists()


def test_image_size_reads_the_header_only(tmp_path, write):
    assert image_size(write(png(3, 8, GRAY, [bytes(3)] * 2)[:60])) == (2, 3)
    with pytest.raises(UserError, match="damaged or no image"):
        image_size(write(b"text"))
    with pytest.raises(MissingFileError, match="no file"):
        image_size(tmp_path / "absent.png")


def test_remap_and_colors():
    labels = torch.tensor([[7, 33], [0, 255]], dtype=torch.uint8)
    train_ids = remap(labels, lookup_table("cityscapes", "cityscapes19"))
    assert train_ids.dtype == torch.uint8
    assert train_ids.tolist() == [[0, 18], [255, 255]]
    picture = encode_colors(train_ids, "cityscapes19")
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 64, 128], [119, 11, 32]], [[0, 0, 0], [0, 0, 0]]]
    np.testing.assert_array_equal(picture, encode_colors(train_ids.long().numpy(), "cityscapes19"))


def test_color_pngs_are_read_as_pillow_reads_them(tmp_path, write, capfd):
    """Whatever chunks and filters they have, and without a word on the terminal."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    smooth = np.add.outer(np.arange(37), np.arange(53))[..., None] * np.array([1, 2, 3])
    profile = {"icc_profile": b"no true profile" * 20}
    for picture in (noise, smooth.astype(np.uint8)):
        for arguments in ({}, {"compress_level": 0}, {"optimize": True}, profile):
            Image.fromarray(picture).save(tmp_path / "a.png", **arguments)
            read = read_image(tmp_path / "a.png")
            assert read.stride() == (1, 53 * 3, 3)
            np.testing.assert_array_equal(read.permute(1, 2, 0), picture)
    good = png(2, 8, RGB, [bytes(range(6)), bytes(range(6, 12))])
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    extras = {
        "orientation": _chunk(b"eXIf", exif),
        "transparent color": _chunk(b"tRNS", struct.pack(">3H", 0, 1, 2)),
        "gamma": _chunk(b"gAMA", struct.pack(">I", 100000)),
        "significant bits": _chunk(b"sBIT", bytes([5, 6, 5])),
        "background": _chunk(b"bKGD", struct.pack(">3H", 9, 9, 9)),
    }
    for kind, chunk in extras.items():
        path = write(good[:33] + chunk + good[33:], "extra.png")
        assert read_image(path).permute(1, 2, 0).flatten().tolist() == list(range(12)), kind
        assert read_image(path).permute(1, 2, 0).shape == (2, 2, 3), kind
    assert capfd.readouterr().err == ""


def test_remap_takes_any_shape():
    table = np.arange(256, dtype=np.uint8)[::-1]
    for shape in ((), (0, 3), (5,), (2, 3, 4)):
        labels = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert torch.equal(remap(labels, table), 255 - labels)
    columns = torch.arange(12, dtype=torch.uint8).reshape(3, 4).T
    assert torch.equal(remap(columns, table), 255 - columns)


def test_a_picture_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "large.png"
    Image.new("1", (20, 20)).save(path)
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"large\.png has more than 200 pixels"):
            read(path)
