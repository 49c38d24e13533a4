"""KITTI's label files: types, regions nobody labeled, lines that are none."""

import pytest
from PIL import Image

from shared.data.catalog import load_detection
from shared.data.records import Annotation
from shared.errors import UserError


def kitti_line(kind: str, *box: object, fields: int = 15) -> str:
    return " ".join(map(str, (kind, 0, 0, -10, *box, *([-1] * 7))[:fields]))


def test_kitti_types_and_regions_nobody_labeled(tmp_path):
    folder = tmp_path / "kitti/training"
    lines = [
        kitti_line("Car", 1.5, 2.25, 10, 20),
        kitti_line("Van", 1, 2, 3, 4),
        kitti_line("Cyclist", 0, 0, 5, 5),
        "",
        kitti_line("DontCare", 30, 5, 99, 15.5),
        kitti_line("Misc", 1, 1, 2, 2),
    ]
    for name in ("label_2", "image_2"):
        (folder / name).mkdir(parents=True)
    (folder / "label_2/000000.txt").write_text("\n".join(lines))
    (folder / "label_2/000001.txt").touch()
    Image.new("RGB", (40, 20)).save(folder / "image_2/000000.png")
    Image.new("RGB", (41, 20)).save(folder / "image_2/000001.jpg")
    first, second = load_detection("kitti_train", tmp_path, labeled=True).records
    assert first.annotations == (
        Annotation("car", (1.5, 2.25, 10, 20)),
        Annotation("car", (30, 5, 40, 15.5), crowd=True),
    )
    assert second.annotations == () and (second.height, second.width) == (20, 41)
    chosen = load_detection("kitti_train", tmp_path, labeled=True, classes=["van", "rider"])
    assert [(a.category, a.crowd) for a in chosen.records[0].annotations] == [
        ("van", False),
        ("rider", False),
        ("van", True),
        ("rider", True),
    ]
    for line in (kitti_line("Car", 1, 2, 3, 4, fields=14), kitti_line("Car", 1, "x", 3, 4)):
        (folder / "label_2/000001.txt").write_text(f"{lines[0]}\n{line}\n")
        with pytest.raises(UserError, match=r"000001\.txt, line 2: got 'Car .*expected 15 fields"):
            load_detection("kitti_train", tmp_path, labeled=True)
