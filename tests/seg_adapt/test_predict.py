import cv2
import numpy as np
import pytest
import torch
from commands import error_line, run

from seg_adapt.config import defaults
from seg_adapt.engine.build import build_method
from seg_adapt.engine.checkpoint import load_method, save_run
from seg_adapt.engine.trainer import Trainer
from seg_adapt.evaluation.inference import predict_train_ids
from seg_adapt.predict import main
from shared.data.images import read_labels, write_png
from shared.data.label_maps import encode_colors, label_space, to_label_ids

CPU = torch.device("cpu")


def make_checkpoint(path, *settings):
    """A run's checkpoint of a tiny untrained network."""
    cfg = defaults()
    cfg.merge_from_list(
        ["MODEL.ARCHITECTURE", "resnet18", "MODEL.WIDTH", 0.0625, "SOLVER.MAX_ITER", 1, *settings]
    )
    torch.manual_seed(0)
    method = build_method(cfg, label_space(cfg.DATASETS.LABEL_SPACE).num_classes)
    # Untrained logits are all alike; spread them so that a picture gets several classes.
    with torch.no_grad():
        for parameter in method.segmentor.stages["head"].parameters():
            parameter.normal_(std=0.5)
    save_run(path, Trainer(method, cfg, device=CPU), cfg)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("run") / "last.pt")


def picture(seed=0, height=40, width=56):
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def predict(checkpoint, source, output, *options):
    return run(main, "--checkpoint", checkpoint, source, "--output", output, *options)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def expected_ids(checkpoint, image, resize=None):
    method, _, _ = load_method(checkpoint, CPU)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None]
    return predict_train_ids(method, batch, resize=resize, size=image.shape[:2])[0]


def test_an_image_gives_ids_colors_and_overlay(checkpoint, tmp_path):
    image, output = picture(), tmp_path / "out"
    write_png(tmp_path / "a.b.png", image)
    assert predict(checkpoint, tmp_path / "a.b.png", output) == 0
    assert names(output) == ["a.b_color.png", "a.b_labelIds.png", "a.b_overlay.png"]
    ids = expected_ids(checkpoint, image)
    assert ids.dtype == np.uint8 and ids.shape == (40, 56) and len(np.unique(ids)) > 1
    written = read_labels(output / "a.b_labelIds.png", "index").numpy()
    assert (written == to_label_ids("cityscapes19")[ids]).all()
    colors = cv2.imread(str(output / "a.b_color.png"))[..., ::-1]
    assert (colors == encode_colors(ids, "cityscapes19")).all()
    blended = cv2.imread(str(output / "a.b_overlay.png"))[..., ::-1]
    assert np.abs(blended - (0.45 * image + 0.55 * colors)).max() <= 1


def test_resize_changes_what_the_network_sees_but_not_the_output_size(checkpoint, tmp_path):
    image = picture(1)
    write_png(tmp_path / "a.png", image)
    assert predict(checkpoint, tmp_path / "a.png", tmp_path / "out", "--resize", "80", "48") == 0
    written = read_labels(tmp_path / "out" / "a_labelIds.png", "index").numpy()
    ids = expected_ids(checkpoint, image, resize=(48, 80))
    assert (written == to_label_ids("cityscapes19")[ids]).all()
    assert (ids != expected_ids(checkpoint, image)).any()


def test_the_checkpoints_own_test_size_is_the_default(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "last.pt", "INPUT.TEST.RESIZE", [80, 48])
    image = picture(1)
    write_png(tmp_path / "a.png", image)
    assert predict(checkpoint, tmp_path / "a.png", tmp_path / "out") == 0
    written = read_labels(tmp_path / "out" / "a_labelIds.png", "index").numpy()
    expected = to_label_ids("cityscapes19")[expected_ids(checkpoint, image, resize=(48, 80))]
    assert (written == expected).all()


def test_a_folder_keeps_its_structure_and_its_own_files(checkpoint, tmp_path):
    source = tmp_path / "in"
    for name in (
        "x/1.png",
        "x/y/1.png",
        "2.JPG",
        "3.jpeg",
        "4.bmp",
        "5.webp",
        "notes.txt",
        ".6.png",
    ):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.suffix != ".txt"
        content = cv2.imencode(path.suffix.lower(), picture())[1].tobytes() if known else b"text"
        path.write_bytes(content)
    output = source / "predictions"
    # The second run must not predict the pictures that the first one wrote below its input.
    for _ in range(2):
        assert predict(checkpoint, source, output) == 0
        assert len(names(output)) == 3 * 6
    assert {n for n in names(output) if n.endswith("labelIds.png")} == {
        f"{stem}_labelIds.png" for stem in ("x/1", "x/y/1", "2", "3", "4", "5")
    }
    bmp = read_labels(output / "4_labelIds.png", "index").numpy()
    rgb = picture()[..., ::-1].copy()
    assert (bmp == to_label_ids("cityscapes19")[expected_ids(checkpoint, rgb)]).all()


def test_broken_images_are_named_and_the_others_predicted(checkpoint, tmp_path, capsys):
    source, output = tmp_path / "in", tmp_path / "out"
    for i in range(2):
        write_png(source / f"{i}.png", picture(i))
    cut = (source / "0.png").read_bytes()[:-40]
    broken = {"cut.png": cut, "empty.jpg": b"", "text.bmp": b"no image", "hollow.webp": b""}
    for name, content in broken.items():
        (source / name).write_bytes(content)
    assert predict(checkpoint, source, output) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    for name in broken:
        assert sum(str(source / name) in line for line in errors) == 1
    assert "2 of 6 images predicted" in captured.out
    assert len(names(output)) == 3 * 2


def test_a_label_space_without_cityscapes_ids_writes_train_ids(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "last.pt", "DATASETS.LABEL_SPACE", "synthia_seqs13")
    image = picture()
    write_png(tmp_path / "a.png", image)
    assert predict(checkpoint, tmp_path / "a.png", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a_color.png", "a_overlay.png", "a_trainIds.png"]
    written = read_labels(tmp_path / "out" / "a_trainIds.png", "index").numpy()
    assert (written == expected_ids(checkpoint, image)).all()


def write_video(path, frames):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()


@pytest.mark.parametrize("frames", [False, True])
def test_a_video_becomes_an_overlay_video(checkpoint, tmp_path, frames):
    write_video(tmp_path / "drive.mp4", [picture(i, 48, 64) for i in range(4)])
    output = tmp_path / "out"
    assert predict(checkpoint, tmp_path / "drive.mp4", output, *["--frames"] * frames) == 0
    capture = cv2.VideoCapture(str(output / "drive_overlay.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    shapes = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        shapes.append(frame.shape)
    capture.release()
    assert shapes == [(48, 64, 3)] * 4
    assert len(names(output)) == 1 + 3 * 4 * frames


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no image, folder or video at"),
        ("notes.txt", "no image or video by its name"),
        ("broken.mp4", "no video that OpenCV reads"),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(checkpoint, tmp_path, capfd, name, message):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "broken.mp4").write_bytes(b"text")
    assert predict(checkpoint, tmp_path / name, tmp_path / "out") == 2
    assert message in error_line(capfd)
    assert not (tmp_path / "out").exists()


def test_unusable_options_are_one_line_and_exit_code_2(checkpoint, tmp_path, capsys):
    write_png(tmp_path / "in" / "a.png", picture())
    source = tmp_path / "in"
    assert predict(checkpoint, source, source) == 2
    assert "is the input folder" in capsys.readouterr().err
    assert predict(checkpoint, source, tmp_path / "out", "--resize", "0", "8") == 2
    assert "expected positive pixels" in capsys.readouterr().err
    assert predict(tmp_path / "none.pt", source, tmp_path / "out") == 2
    assert "none.pt" in capsys.readouterr().err
    assert names(source) == ["a.png"]


def test_predictions_of_a_batch_are_those_of_its_images(checkpoint):
    method, _, _ = load_method(checkpoint, CPU)
    images = torch.stack([torch.from_numpy(picture(i)).permute(2, 0, 1) for i in range(3)])
    ids = predict_train_ids(method, images, resize=None, size=(33, 21))
    assert ids.shape == (3, 33, 21)
    for i in range(3):
        alone = predict_train_ids(method, images[i : i + 1], resize=None, size=(33, 21))
        # Ties apart, which rounding may break either way.
        assert (alone[0] == ids[i]).mean() > 0.99
