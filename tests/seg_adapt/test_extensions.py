"""A user's own network, method and data set in one file, from training to prediction."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import fails

from seg_adapt import predict
from shared.config import CONFIGS
from shared.errors import MissingFileError, UserError
from shared.extensions import import_extensions
from shared.run.folder import settings_of

REPOSITORY = Path(__file__).parents[2]
OWN = '''
"""All of a user's own."""

from dataclasses import dataclass
from functools import partial

from torch import nn

from seg_adapt.methods.base import METHODS
from seg_adapt.methods.source_only import SourceOnly
from seg_adapt.models.build import ARCHITECTURES
from seg_adapt.models.parts import Parts
from seg_adapt.models.preprocessing import Convention
from shared.data.catalog import SEGMENTATION, Entry
from shared.data.segmentation import cityscapes_layout
from shared.options import Options


class Head(nn.Module):
    """Both levels, side by side."""

    def __init__(self, num_classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, num_classes, 1), nn.Conv2d(8, num_classes, 1)

    def forward(self, maps):
        first, second = maps
        deep = nn.functional.interpolate(self.second(second), first.shape[-2:])
        return self.first(first) + deep


@ARCHITECTURES.register("two_levels")
def two_levels(options, num_classes):
    stages = {
        "first": nn.Conv2d(3, 4, 3, stride=4, padding=1),
        "second": nn.Conv2d(4, 8, 3, stride=2, padding=1),
        "head": Head(num_classes),
    }
    return Parts(
        stages,
        {"first": 4, "second": 8, "head": num_classes},
        feature_stage="second",
        head_inputs=("first", "second"),
        output_stride=4,
        strides={"second": 8},
        preprocessing=Convention((0, 1, 2), (127.0,) * 3, (128.0,) * 3),
    )


@dataclass(frozen=True)
class OwnOptions(Options, node="OWN"):
    weight: float = 1.0


@METHODS.register("own_method")
class OwnMethod(SourceOnly):
    options_type = OwnOptions


SEGMENTATION.add("toy_own_city", Entry(None, partial(cityscapes_layout, split="val")))
'''


def python(script: str, *arguments, folder: Path) -> subprocess.CompletedProcess:
    """A script in a process of its own, which knows nothing of earlier imports."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, REPOSITORY / script, *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def workplace(settings, toy_root, tmp_path_factory) -> Path:
    """A folder with the file own.py and a run by it, `run`."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    done = python("seg_adapt/train.py", *command(settings), "--import", "own.py", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def command(settings, *overrides) -> list[str]:
    network = ["MODEL.ARCHITECTURE", "two_levels", "MODEL.WEIGHTS", "", "DATASETS.TEST"]
    return [
        *("--config-file", "toy", "--method", "own_method", "--output", "run", *settings),
        *(*network, "toy_own_city", "OWN.WEIGHT", "2.0", "SOLVER.SCHEDULE", "constant", *overrides),
    ]


def test_prediction_finds_what_the_run_imported(workplace, toy_root, capsys, monkeypatch):
    assert settings_of(workplace / "run")["IMPORTS"] == [str(workplace / "own.py")]
    image = next((toy_root / "toy/cityscapes/leftImg8bit/val").rglob("*.png"))
    arguments = ("--checkpoint", "run", image, "--output", "out")
    done = python("seg_adapt/predict.py", *arguments, folder=workplace)
    assert done.returncode == 0, done.stderr
    assert len(list((workplace / "out").glob("*_labelIds.png"))) == 1

    monkeypatch.chdir(workplace)
    shutil.move("own.py", "moved.py")
    message = fails(capsys, predict.main, *arguments)
    done = python("seg_adapt/predict.py", *arguments, "--import", "moved.py", folder=workplace)
    shutil.move("moved.py", "own.py")
    assert "own.py: --import names its new place" in message
    assert done.returncode == 0, done.stderr


def test_resuming_finds_what_the_run_imported(workplace, settings):
    longer = command(settings, "SOLVER.MAX_ITER", "5")
    done = python("seg_adapt/train.py", *longer, "--resume", folder=workplace)
    assert done.returncode == 0 and "own_method: mIoU" in done.stdout, done.stderr


def test_weights_of_a_run_are_read_whatever_its_preprocessing(workplace, settings):
    last = "run/checkpoints/last.pt"
    own = {"_BASE_": str(CONFIGS / "toy.yaml"), "IMPORTS": ["own.py"]}
    (workplace / "own.yaml").write_text(yaml.safe_dump(own))
    second = ("--config-file", "own.yaml", "--output", "second", "MODEL.WEIGHTS", last)
    done = python("seg_adapt/train.py", *command(settings), *second, folder=workplace)
    assert done.returncode == 0, done.stderr
    assert "8 of 8 tensors loaded (layout: ours)" in done.stderr
    options = ("--architecture", "two_levels", "--import", "own.py")
    done = python("seg_adapt/convert_weights.py", last, "out.pt", *options, folder=workplace)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_imported_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=r"no file .*none\.py"):
        import_extensions(["none.py"])
    with pytest.raises(MissingFileError, match="no module 'no_such_module'"):
        import_extensions(["no_such_module"])
    Path("broken.py").write_text("import torch\n\n1 / 0\n")
    with pytest.raises(
        UserError, match=r"importing broken.py failed: ZeroDiv.* \(.*broken.py, line 3\)"
    ):
        import_extensions(["broken.py"])
    Path("json.py").write_text("")
    with pytest.raises(UserError, match="called like another module, 'json': rename"):
        import_extensions(["json.py"])
    Path("needs.py").write_text("import no_such_module\n")
    with pytest.raises(UserError, match=r"importing needs.py failed: ModuleNotFoundError"):
        import_extensions(["needs.py"])


def test_a_module_is_imported_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "counted_extension.py"
    file.write_text("import sys\nsys.times_imported = getattr(sys, 'times_imported', 0) + 1\n")
    try:
        assert import_extensions([str(file), "yaml", str(file)]) == [str(file), "yaml"]
        assert import_extensions([str(file)]) == [str(file)]
        assert sys.times_imported == 1
    finally:
        del sys.modules["counted_extension"], sys.times_imported
