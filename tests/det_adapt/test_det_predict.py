import json

import commands
import cv2
import numpy as np
import pytest
import torch
from scenes import detections

from det_adapt.detection_files import read_detections
from det_adapt.engines import engine_config
from det_adapt.pictures import draw_detections
from det_adapt.predict import Predictor, main
from det_adapt.torchvision_engine import Trainer
from shared.config import CONFIGS
from shared.data.images import write_png
from shared.pictures import class_colors

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def picture(seed=0, height=40, width=56):
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an untrained run, with masks and a pyramid."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [
        *("OUTPUT_DIR", str(folder), "INPUT.MIN_SIZE_TEST", "32", "SAP.LEVELS", "[1, 3]"),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "SAP.EMBED_CHANNELS", "8"),
        *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "TEST.DETECTIONS_PER_IMAGE", "5"),
    ]
    cfg = engine_config("torchvision", CONFIGS / "sapnet_toy_foggy.yaml", overrides)
    Trainer(cfg).save()
    return folder


def predict(run, source, output, *options):
    fixed = ["--checkpoint", run, "--engine", "torchvision", source, "--output", output]
    return commands.run(main, *fixed, *options)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_an_image_gets_boxes_masks_and_pictures(run, tmp_path):
    write_png(tmp_path / "a.png", picture())
    output = tmp_path / "out"
    assert predict(run, tmp_path / "a.png", output, "--score", "0", "--attention") == 0
    assert names(output) == ["a.json", "a_attention.png", "a_detections.png"]
    found = read_detections(output / "a.json", CLASSES)
    assert len(found) == 5 and found.masks.shape == (5, 40, 56)
    expected = Predictor.from_checkpoint(run)(torch.from_numpy(picture()).permute(2, 0, 1))
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.masks, expected.masks)
    assert found.boxes[:, 2].max() <= 56 and found.boxes[:, 3].max() <= 40
    drawn = cv2.imread(str(output / "a_detections.png"))
    assert drawn.shape == (40, 56, 3)
    things = json.loads((output / "a.json").read_text())
    assert things[0].keys() == {"class", "score", "box", "mask"}


def test_a_folder_keeps_its_tree_and_names_what_is_broken(run, tmp_path, capsys):
    source = tmp_path / "in"
    write_png(source / "x/a.png", picture(1))
    write_png(source / "b.png", picture(2))
    (source / "broken.png").write_text("no image")
    assert predict(run, source, tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert "broken.png" in printed.err and "2 of 3 images" in printed.out
    assert {"b.json", "x/a.json"} <= set(names(tmp_path / "out"))


def test_a_video_is_drawn_frame_by_frame(run, tmp_path):
    path = tmp_path / "v.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (56, 40))
    for seed in range(3):
        writer.write(picture(seed))
    writer.release()
    assert predict(run, path, tmp_path / "out", "--frames") == 0
    assert {"v_detections.mp4", "v_frames/000002.json"} <= set(names(tmp_path / "out"))
    video = cv2.VideoCapture(str(tmp_path / "out/v_detections.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_checkpoint_needs_nothing_beside_it(run, tmp_path):
    alone = tmp_path / "alone.pt"
    alone.write_bytes((run / "checkpoints/last.pt").read_bytes())
    expected, found = (Predictor.from_checkpoint(path)(picture()) for path in (run, alone))
    assert torch.equal(found.boxes, expected.boxes) and torch.equal(found.masks, expected.masks)


def test_bad_input_is_one_line(run, tmp_path, capsys):
    write_png(tmp_path / "a.png", picture())
    (tmp_path / "bare").mkdir()
    (tmp_path / "notes.txt").write_text("")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "weights.pt")
    for arguments, message in (
        ((run, tmp_path / "none.png"), "no image, folder or video"),
        ((run, tmp_path / "notes.txt"), "no image or video by its name"),
        ((tmp_path / "bare", tmp_path / "a.png"), "no checkpoint at"),
        ((tmp_path / "weights.pt", tmp_path / "a.png"), "holds no settings"),
    ):
        assert predict(*arguments, tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert predict(run, tmp_path / "a.png", tmp_path / "out", "--score", "2") == 2
    capsys.readouterr()
    assert predict(run, tmp_path / "a.png", tmp_path / "notes.txt") == 2
    assert "cannot write to the folder" in capsys.readouterr().err


def test_only_what_scores_enough_is_drawn_in_its_class_color():
    image = np.full((60, 80, 3), 10, np.uint8)
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 30:50, 10:40] = True
    masks[1, 30:50, 50:70] = True
    found = detections((1, 0.9, (10, 30, 40, 50)), (0, 0.3, (50, 30, 70, 50)), masks=masks)
    drawn = draw_detections(image, found, ("car", "bus"))
    assert tuple(drawn[49, 20]) == class_colors(2)[1]
    assert (drawn[:, 50:] == 10).all() and (image == 10).all()
    assert (drawn[40, 20] != 10).any()
    assert (draw_detections(image, detections(), ("car",)) == image).all()
