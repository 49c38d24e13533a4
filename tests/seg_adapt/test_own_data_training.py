"""docs/own_data.md: its segmentation commands, and what a run on own data leaves behind."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import fails
from PIL import Image

from seg_adapt import predict, train
from seg_adapt.engine.checkpoint import load_method, resume_run
from seg_adapt.engine.run import Run
from seg_adapt.structures import TargetBatch
from shared.cli import call
from shared.data.catalog import load_segmentation
from shared.data.images import read_labels, write_png
from shared.data.label_maps import IGNORE, label_space, lookup_table
from shared.data.own import resolve_label_space, resolve_segmentation
from shared.errors import UserError
from shared.events import read_metrics

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "own_data.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
    for line in block.splitlines()
    if "det_adapt" not in line  # tests/det_adapt/test_own_data_commands.py
]
PARK = (10, 20, 21, 30, 40, 99)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the page's data: its YAML files as they stand there, tiny pictures."""
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S):
        path = tmp_path / re.match(r"# (\S+)\n", block)[1]
        path.parent.mkdir()
        path.write_text(block)
    generator = np.random.default_rng(0)

    def pair(image, label, ids):
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(image)
        # Blocks, so that the tiny network's output resolution sees every class.
        blocks = np.resize(np.array(ids, np.uint8), (6, 8))
        write_png(label, np.kron(blocks, np.ones((8, 8), np.uint8)))

    for name in ("1", "2"):
        city, park = tmp_path / "my_city", tmp_path / "park/rgb"
        ids = (0, 1, 2, 7, 8, 12, 14, 99)
        pair(city / f"frames/{name}.jpg", city / f"annotations/{name}_label.png", ids)
        pair(park / f"{name}_rgb.png", park / f"{name}_class.png", PARK)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(toy_root, tiny_network):
    """Settings that bring an experiment of the page down to seconds; gta5 is the toy's game."""
    return [
        *("MODEL.DEVICE", "cpu", "DATASETS.ROOT", str(toy_root / "toy")),
        *("DATALOADER.NUM_WORKERS", "0", *tiny_network),
        *("INPUT.CROP", "[48, 48]", "SOLVER.MAX_ITER", "2"),
        *("INPUT.SOURCE.SCALES", "[1.0, 1.0]", "INPUT.TARGET.SCALES", "[1.0, 1.0]"),
        *("SOLVER.IMS_PER_BATCH", "1", "TEST.PICTURES", "1"),
    ]


def start(command, tiny):
    """The run that a training command of the page begins."""
    assert command[:2] == ["python", "seg_adapt/train.py"]
    args = train.parser().parse([*command[2:], *tiny])
    return Run(train.configure(args))


def command(*words):
    found = [c for c in COMMANDS if all(word in c for word in words)]
    assert len(found) == 1
    return found[0]


def test_the_page_has_six_commands():
    assert len(COMMANDS) == 6


def test_a_folder_is_adapted_to_without_scores_and_predicted(here, tiny, capsys):
    run = start(command("DATASETS.TARGET", "my_city/frames", "DATASETS.TEST", ""), tiny)
    assert run.test is None and len(run.target) == 2
    run.check()
    assert run.train() == {}
    lines = [x for x in capsys.readouterr().err.splitlines() if "DATASETS.TEST is empty" in x]
    assert len(lines) == 1 and "nothing was scored" in lines[0]
    kinds = {event["kind"] for event in read_metrics(run.folder)}
    assert kinds == {"train"}
    page = (run.folder / "report.html").read_text()
    assert "my_city/frames" in page and "mIoU" not in page
    with pytest.raises(UserError, match=r"DATASETS\.TEST is empty"):
        run.evaluate()

    words = command("seg_adapt/predict.py")
    assert call(predict.main, words[2:]) == 0
    made = sorted(p.name for p in (here / "my_city/predictions").iterdir())
    assert made == sorted(f"{i}_{k}.png" for i in "12" for k in ("labelIds", "color", "overlay"))


def test_the_command_line_trains_without_test_data(here, tiny, capsys):
    words = command("DATASETS.TARGET", "my_city/frames", "DATASETS.TEST", "")
    assert call(train.main, [*words[2:], *tiny]) == 0
    assert capsys.readouterr().out == "report: runs/road_gta5/road/report.html\n"


def test_intermediate_scores_need_test_data_too(here, tiny):
    words = [
        *command("DATASETS.TARGET", "my_city/frames", "DATASETS.TEST", ""),
        "TEST.EVAL_PERIOD",
        "1",
    ]
    assert start(words, tiny).train() == {}


def test_pictures_of_test_images_in_subfolders_are_in_the_report(here, tiny):
    for kind in ("frames", "annotations"):
        (here / "my_city" / kind).rename(here / "moved")
        (here / "my_city" / kind).mkdir()
        (here / "moved").rename(here / "my_city" / kind / "north")
    run = start(command("DATASETS.TEST", "my_city/my_city.yaml"), tiny)
    run.train()
    assert (run.folder / "panels/north/1.png").is_file()
    assert "<figcaption>1</figcaption>" in (run.folder / "report.html").read_text()


def test_labels_are_a_source(here, tiny):
    run = start(command("DATASETS.TRAIN", "my_city/my_city.yaml", "--output"), tiny)
    slots = [run.source.load(slot) for slot in range(2)]
    seen = set(np.unique(torch.stack([sample.labels for sample in slots])).tolist())
    classes = label_space("cityscapes19").classes
    listed = ("road", "sidewalk", "building", "vegetation", "sky", "person", "car")
    assert seen <= {classes.index(name) for name in listed} | {IGNORE}
    assert {classes.index("road"), classes.index("car"), IGNORE} <= seen
    scores = run.train()
    assert scores["dataset"] == "cityscapes_val" and scores["official"] is not None


def test_labels_are_a_test_and_a_target_has_none(here, tiny):
    run = start(command("DATASETS.TEST", "my_city/my_city.yaml"), tiny)
    assert all(record.label is None for record in run.target.dataset.records)
    assert not hasattr(TargetBatch, "labels")
    scores = run.train()
    assert (scores["dataset"], scores["images"]) == ("my_city/my_city.yaml", 2)
    assert scores["official"] is None and 0 <= scores["miou"] <= 100
    assert len(list((run.folder / "panels").glob("*.png"))) == 1


def test_a_labeled_description_as_target_gives_no_label_away(here, tiny):
    words = command("DATASETS.TEST", "my_city/my_city.yaml")
    words = ["my_city/my_city.yaml" if w == "my_city/frames" else w for w in words]
    run = start(words, tiny)
    assert len(run.target) == 2
    assert all(record.label is None for record in run.target.dataset.records)
    assert run.target.load(0).labels is None


def test_own_classes_are_trained_scored_and_predicted_without_their_file(here, tiny):
    run = start(command("DATASETS.LABEL_SPACE", "park/park.yaml"), tiny)
    classes = ("path", "grass", "tree", "bench")
    assert run.space.classes == classes
    scores = run.train()
    assert tuple(scores["iou"]) == classes and scores["official"] is None
    space = resolve_label_space("park/park.yaml")
    predicted = read_labels(run.predictions / "1.png", "index")
    assert predicted.max() < 4

    shutil.rmtree("park")
    _, stored, _ = load_method(run.checkpoint, torch.device("cpu"))
    assert stored == space and stored.colors == space.colors
    arguments = ["--checkpoint", str(run.checkpoint), "my_city/frames", "--output", "out"]
    assert call(predict.main, arguments) == 0
    for name in ("1", "2"):
        ids = read_labels(here / f"out/{name}_trainIds.png", "index").numpy()
        colors = np.asarray(Image.open(here / f"out/{name}_color.png"))
        assert (colors == np.array(space.colors, np.uint8)[ids]).all()


def test_a_run_of_own_classes_resumes_only_with_the_same_classes(here, tiny):
    words = command("DATASETS.LABEL_SPACE", "park/park.yaml")
    start(words, tiny).train()
    again = start(words, tiny)
    again.resume()
    assert again.trainer.iteration == 2
    path = here / "park/park.yaml"
    path.write_text(path.read_text().replace("[path, grass,", "[grass, path,"))
    changed = start(words, tiny)
    with pytest.raises(UserError, match=r"its classes are path, grass.* are now grass, path"):
        changed.resume()
    with pytest.raises(UserError, match="its classes are path, grass"):
        resume_run(changed.checkpoint, changed.trainer, changed.cfg)


def test_a_registered_space_is_not_copied_into_the_checkpoint(here, tiny):
    run = start(command("DATASETS.TEST", "my_city/my_city.yaml"), tiny)
    run.train()
    assert torch.load(run.checkpoint, weights_only=True)["label_space"] is None
    assert load_method(run.checkpoint, torch.device("cpu"))[1] is label_space("cityscapes19")


def test_own_ids_map_as_a_published_table_does(here, toy_root):
    """GTA5 described by hand trains on the very labels that the catalog's GTA5 has."""
    published = load_segmentation("gta5", toy_root / "toy")
    path = here / "gta5.yaml"
    path.write_text(
        f"images: {toy_root}/toy/gta5/images\nlabels: {published.label_folder}\nids: gta5"
    )
    own = resolve_segmentation(str(path), toy_root, space=label_space("cityscapes19"), labeled=True)
    assert own.records == published.records
    space = label_space("cityscapes19")
    tables = [lookup_table(d.id_table, space) for d in (own, published)]
    np.testing.assert_array_equal(*tables)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TRAIN", "my_city/frames", "is a folder of images, and a source or test needs"),
        ("DATASETS.TEST", "my_city/frames", "is a folder of images, and a source or test needs"),
        ("DATASETS.TARGET", "my_city/gone", "no folder of images my_city/gone"),
        (
            "DATASETS.TEST",
            "park/park.yaml",
            "id 10 is class 'path', which label space 'cityscapes19'",
        ),
        ("DATASETS.LABEL_SPACE", "gone.yaml", "no file gone.yaml"),
        ("DATASETS.LABEL_SPACE", "my_city/my_city.yaml", "defines no label space"),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(key, value, message, here, tiny, capsys):
    words = command("DATASETS.TARGET", "my_city/frames", "DATASETS.TEST", "")
    assert message in fails(capsys, train.main, *words[2:], *tiny, "--dry-run", key, value)
