import cv2
import numpy as np
import pytest

from shared.data.images import write_png
from shared.data.media import IMAGES, Video, find_images, is_video, read_picture, writing_video
from shared.errors import UserError


def picture(seed=0, height=48, width=64):
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def test_a_folders_images_keep_their_place_in_it(tmp_path):
    files = ("x/y/1.png", "2.JPG", "x/1.webp", "notes.txt", ".3.png", "out/2.png")
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    pairs = find_images(tmp_path, tmp_path / "out")
    assert {str(name): path for path, name in pairs} == {
        "x/y/1": tmp_path / "x/y/1.png",
        "2": tmp_path / "2.JPG",
        "x/1": tmp_path / "x/1.webp",
    }
    [(path, name)] = find_images(tmp_path / "2.JPG", tmp_path)
    assert path == tmp_path / "2.JPG" and str(name) == "2"


def test_what_names_no_image_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    for source, message in (
        (tmp_path / "notes.txt", "no image or video by its name; expected one of png, .*mp4"),
        (tmp_path, "no image below .*; looked for png, jpg"),
    ):
        with pytest.raises(UserError, match=message):
            find_images(source, tmp_path / "out")
    with pytest.raises(UserError, match="is the input folder"):
        find_images(tmp_path, tmp_path)
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would have the same predictions'"):
        find_images(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("ending", IMAGES)
def test_every_format_is_read_as_rgb(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(cv2.imencode(ending, picture()[..., ::-1])[1].tobytes())
    image = read_picture(path)
    assert image.shape == (3, 48, 64)
    difference = np.abs(image.permute(1, 2, 0).numpy().astype(int) - picture())
    assert difference.mean() < (8 if ending in (".jpg", ".jpeg", ".webp") else 1e-9)


@pytest.mark.parametrize("ending", IMAGES)
@pytest.mark.parametrize("content", [b"", b"no image"])
def test_a_damaged_image_is_named(tmp_path, ending, content):
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\{ending} is "):
        read_picture(tmp_path / f"a{ending}")


def test_a_video_is_written_and_read(tmp_path):
    path = tmp_path / "new" / "drive.mp4"
    frames = [picture(seed) for seed in range(4)]
    with writing_video(path, 10.0, (48, 64)) as writer:
        for frame in frames:
            writer.write(frame[..., ::-1])
        assert not path.exists()
    assert is_video(path)
    video = Video(path)
    assert (video.rate, video.count, video.size) == (10.0, 4, (48, 64))
    for image, frame in zip(video, frames, strict=True):
        assert image.shape == (3, 48, 64)
        assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - frame).mean() < 24


def test_an_interrupted_video_is_none(tmp_path):
    def interrupted():
        with writing_video(tmp_path / "a.mp4", 10.0, (48, 64)) as writer:
            writer.write(picture())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_named(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"text")
    write_png(tmp_path / "a.png", picture())
    assert is_video(path) and not is_video(tmp_path / "a.png") and not is_video(tmp_path / "b.mp4")
    with pytest.raises(UserError, match=r"a\.mp4 is damaged or no video that OpenCV reads"):
        Video(path)
