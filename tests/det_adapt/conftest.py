"""Detectron2 is optional: where it is missing, its tests are skipped and the summary says so."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from det_adapt.config import INSTALL_DETECTRON2
from shared.catalog import DetectionRecord

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
