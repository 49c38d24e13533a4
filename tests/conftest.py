"""Toy data and small networks that many tests share.

Detectron2 is optional: where it is missing, its tests are skipped and the summary says so.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from det_adapt.config import INSTALL_DETECTRON2
from seg_adapt.methods.base import Method
from seg_adapt.models.build import build_segmentor
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import conventions
from seg_adapt.options import LayerRates, ModelOptions
from seg_adapt.structures import Geometry, Phase, SourceBatch, TargetBatch
from shared import checkpoint
from shared.data.records import DetectionRecord
from shared.toy.layouts import LAYOUTS, make_toy

TOY_SIZE = (64, 128)
HAS_DETECTRON2 = find_spec("detectron2") is not None


def pytest_collection_modifyitems(items):
    skip = pytest.mark.skip(reason="needs Detectron2")
    for item in items:
        if not HAS_DETECTRON2 and item.get_closest_marker("detectron2"):
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    if not HAS_DETECTRON2:
        terminalreporter.section("Detectron2 is missing: its tests were skipped", yellow=True)
        terminalreporter.line(f"to run them, install it: {INSTALL_DETECTRON2}")


@pytest.fixture
def make_record(tmp_path):
    """Writes a noise image, and an instance PNG if asked for: `make_record(name, annotations)`."""

    def make(name="a", annotations=(), size=(40, 60), ids=None):
        generator = np.random.default_rng(sum(map(ord, name)))
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        image, instances = tmp_path / f"{name}.png", None
        Image.fromarray(pixels).save(image)
        if ids is not None:
            instances = tmp_path / f"{name}_ids.png"
            Image.fromarray(ids.astype(np.uint16)).save(instances)
        known = None if annotations is None else tuple(annotations)
        return DetectionRecord(name, image, *size, known, instances)

    return make


@pytest.fixture(scope="session")
def cityscapes_scripts() -> dict:
    """What the unmodified scripts gave to `tests/data/record_cityscapes_scripts.py`."""
    path = Path(__file__).parent / "data" / "cityscapes_scripts.json"
    return json.loads(path.read_text())


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny tensors: a second thread only adds noise and waiting."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with six game frames and six + three real ones of 64x128. Not to be written."""
    root = tmp_path_factory.mktemp("data")
    height, width = TOY_SIZE
    make_toy(
        root,
        ["gta5", "cityscapes"],
        count=6,
        val_count=3,
        height=height,
        width=width,
        workers=1,
        progress=False,
    )
    return root


@pytest.fixture(scope="session")
def all_toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every toy layout, 3 + 2 frames of 96x192 each. Not to be written."""
    root = tmp_path_factory.mktemp("toys")
    make_toy(
        root, list(LAYOUTS), count=3, val_count=2, workers=1, progress=False, height=96, width=192
    )
    return root


@pytest.fixture(scope="session")
def pair_root(tmp_path_factory):
    """Six game frames, six + three real and foggy ones, of 64x128. Not to be written."""
    root = tmp_path_factory.mktemp("data")
    layouts = ["sim10k", "cityscapes", "cityscapes_foggy"]
    size = {"height": 64, "width": 128}
    make_toy(root, layouts, count=6, val_count=3, **size, workers=1, progress=False)
    return root


@pytest.fixture
def copy(all_toys, tmp_path):
    """`copy(folder, …)`: the data root of a copy of those folders of the toys."""

    def copied(*folders: str) -> Path:
        for folder in folders:
            shutil.copytree(all_toys / "toy" / folder, tmp_path / "data/toy" / folder)
        return tmp_path / "data"

    return copied


def network(architecture: str, num_classes: int = 5, **options) -> Segmentor:
    """A segmentor all of which is trained, BatchNorm included."""
    options = {"bn": "train", "bn_affine": True, "align_corners": False} | options
    return build_segmentor(ModelOptions(architecture=architecture, **options), num_classes)


def tiny_segmentor(num_classes: int = 5, **options) -> Segmentor:
    """A ResNet-18 of an eighth of the width; the same weights at every call."""
    torch.manual_seed(0)
    options = {"architecture": "resnet18", "width": 0.125, "bn": "frozen"} | options
    return network(num_classes=num_classes, **options)


def backward(method: Method, phase: Phase) -> None:
    """Back-propagates a phase into its own group alone, as the engine does."""
    groups = method.groups(LayerRates())[phase.group]
    total = sum(phase.losses.values())
    if total.requires_grad:
        total.backward(inputs=[p for group in groups for p in group["params"]])


def descend(loss: torch.Tensor, module: torch.nn.Module, largest: float) -> None:
    """Moves the module's parameters against the loss's gradient, none further than `largest`."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters)
    step = largest / max(g.abs().max() for g in gradients)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p.sub_(step * g)


def random_batches(
    count: int = 2, size: tuple[int, int] = (33, 49), num_classes: int = 5, seed: int = 0
) -> tuple[SourceBatch, TargetBatch]:
    """Noise images with random labels, some ignored, covering whole images."""
    generator = torch.Generator().manual_seed(seed)

    def images() -> torch.Tensor:
        return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)

    labels = torch.randint(0, num_classes, (count, *size), generator=generator)
    labels[:, :3] = 255
    geometry = Geometry.whole(count, *size)
    names = tuple(str(i) for i in range(count))
    return SourceBatch(images(), labels, geometry, names), TargetBatch(images(), geometry, names)


@pytest.fixture(scope="session")
def tiny_network(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that put a tiny ResNet-18 in the place of the toy's network, and its weights."""
    segmentor = tiny_segmentor()
    state = {k: v for k, v in segmentor.state_dict().items() if not k.startswith("stages.head.")}
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    checkpoint.save({"segmentor": state, "made_for": conventions(segmentor)}, path)
    return [
        *("MODEL.ARCHITECTURE", "resnet18", "MODEL.WIDTH", "0.125", "MODEL.WEIGHTS", str(path)),
        *("MODEL.OUTPUT_STRIDE", "8", "MODEL.BN", "train", "SOLVER.HEAD_LR_MULT", "1.0"),
    ]


@pytest.fixture(scope="session")
def settings(toy_root: Path, tiny_network: list[str]) -> list[str]:
    """Overrides that make a run on the toy root a matter of a second."""
    return [
        *("DATASETS.ROOT", str(toy_root), *tiny_network, "INPUT.TEST.RESIZE", "[]"),
        *("SOURCE_STAGE.ITERATIONS", "0", "SOLVER.MAX_ITER", "4"),
        *("INPUT.CROP", "[96, 48]", "DATALOADER.NUM_WORKERS", "0"),
        *("LOG_PERIOD", "1", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.PICTURES", "2"),
    ]
