"""Records the results of Cityscapes' unmodified scripts on the tests' inputs.

    python tests/data/record_cityscapes_scripts.py

Needs NumPy below 2.3: newer ones lack what cityscapesScripts 2.3.0 calls.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "seg_adapt"), str(TESTS / "det_adapt")]

import test_cityscapes_instances as instances  # noqa: E402
import test_evaluation as pixels  # noqa: E402

from det_adapt.evaluation.cityscapes import RESULT, CityscapesEvaluation  # noqa: E402


def run(script: str, folder: Path, paths: dict, arguments: list) -> subprocess.CompletedProcess:
    """Runs a copy of the installed file: the instance script keeps a cache beside itself."""
    copy = shutil.copy(find_spec(f"cityscapesscripts.evaluation.{script}").origin, folder)
    environment = os.environ | {key: str(path) for key, path in paths.items()}
    command = [sys.executable, copy, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def record_pixels(name: str, folder: Path) -> dict:
    """With sorted files: their order can change nIoU in the last digit."""
    pixels.make_case(folder, name)
    files = [*sorted(folder.glob("data/gtFine/val/*/*_labelIds.png"))]
    files += sorted(folder.glob("predictions/*.png"))
    # The script tells them apart by "gt" and "pred" in a name, so the folder's stays out of it.
    files = [path.relative_to(folder) for path in files]
    ended = run("evalPixelLevelSemanticLabeling", folder, {"CITYSCAPES_EXPORT_DIR": folder}, files)
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / pixels.RESULT).read_text())


def record_instances(name: str, folder: Path) -> dict | str:
    """The result, or the exception that the script stops with."""
    data, found = instances.CASES[name](folder / "data")
    instances.evaluated(CityscapesEvaluation(data, folder / "predictions"), found)
    paths = {
        "CITYSCAPES_DATASET": data.official_root,
        "CITYSCAPES_RESULTS": folder / "predictions",
    }
    ended = run("evalInstanceLevelSemanticLabeling", folder, paths, [])
    if ended.returncode:
        return ended.stderr.splitlines()[-1].split(":")[0]
    return json.loads((data.official_root / "evaluationResults" / RESULT).read_text())


def main() -> None:
    record = {package: version(package) for package in ("cityscapesscripts", "numpy", "pillow")}
    for kind, cases, function in (
        ("pixels", pixels.CASES, record_pixels),
        ("instances", instances.CASES, record_instances),
    ):
        record[kind] = {}
        for name in cases:
            with tempfile.TemporaryDirectory() as folder:
                record[kind][name] = function(name, Path(folder))
    (TESTS / "data" / "cityscapes_scripts.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
