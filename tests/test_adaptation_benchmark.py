"""What the adaptation benchmark computes beside training."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import results_page
from color_transfer import TRANSFERS, histograms, match_histogram, match_mean_and_deviation
from results_plot import plot
from suites import SUITES, Measure

from seg_adapt.methods import METHODS
from shared.errors import UserError

REPOSITORY = Path(__file__).parents[1]
MIOU = SUITES["segmentation"].measures[0]


def noise(seed, low, high, size=(24, 40, 3)):
    return np.random.default_rng(seed).integers(low, high, size, dtype=np.uint8)


@pytest.mark.parametrize("transfer", TRANSFERS.values())
def test_matching_an_image_to_its_own_colors_changes_nothing(transfer):
    image = noise(0, 0, 256)
    assert np.array_equal(transfer(image, histograms([image])), image)


def test_mean_and_deviation_become_the_reference_s():
    image, reference = noise(1, 90, 140), noise(2, 40, 200)
    matched = match_mean_and_deviation(image, histograms([reference])).astype(float)
    assert matched.mean(axis=(0, 1)) == pytest.approx(reference.mean(axis=(0, 1)), abs=0.5)
    assert matched.std(axis=(0, 1)) == pytest.approx(reference.std(axis=(0, 1)), abs=0.5)


def test_histograms_become_the_reference_s():
    image, reference = noise(3, 0, 64, (96, 96, 3)), noise(4, 128, 192, (96, 96, 3))
    matched = match_histogram(image, histograms([reference]))
    steps = np.abs(np.cumsum(histograms([matched]) - histograms([reference]), axis=1))
    assert steps.max() < 0.03
    assert matched.min() >= 128


def test_one_color_has_no_deviation_to_match():
    image = np.full((4, 5, 3), 7, np.uint8)
    for transfer in TRANSFERS.values():
        assert transfer(image, histograms([noise(5, 10, 20)])).shape == image.shape


@pytest.fixture
def results(tmp_path):
    def write(row, seed, miou, **more):
        result = {
            "row": row,
            "seed": seed,
            "miou": miou,
            "iou": {"road": miou, "train": None},
            "stages": {"source": 10.0, "train": miou},
            "cpu_seconds": 60.0,
            "peak_memory_mb": 100,
        }
        (tmp_path / f"{row}_seed{seed}.json").write_text(json.dumps(result | more))

    write("source_only", 0, 20.0, transferred={"histogram": 21.0})
    write("source_only", 1, 22.0, transferred={"histogram": 23.0})
    write("road", 0, 25.0)
    write("road", 1, 29.0)
    return results_page.read_results(tmp_path, ["source_only", "road", "oracle"])


def test_table_shows_seeds_spread_and_paired_gain(results):
    lines = results_page.table(results, MIOU).splitlines()
    assert lines[2].startswith("| source_only | 20.0 | 22.0 | 21.0 ± 1.4 |  | 1.0 | 100 |")
    assert "| 21.0 | 23.0 | 22.0 ± 1.4 |" in lines[3]
    assert lines[4] == "| road | 25.0 | 29.0 | 27.0 ± 2.8 | +6.0 (+5.0 … +7.0) | 1.0 | 100 |"
    assert "source 10.0 → train 27.0" in results_page.stage_table(results, MIOU)
    assert results_page.class_table(results, MIOU).splitlines() == [
        "| IoU | source_only | road |",
        "| --- | --- | --- |",
        "| road | 21.0 | 27.0 |",
        "| train | – | – |",
    ]


def test_plot_places_every_seed(results):
    drawing = plot(results, Measure("mIoU", "miou", "iou"))
    assert drawing.count("<circle") == 4 and "mIoU in percent" in drawing


def test_the_page_holds_what_the_results_say():
    page = (REPOSITORY / "docs" / "results.md").read_text()
    for name, suite in SUITES.items():
        folder = REPOSITORY / "benchmarks" / "results" / "adaptation" / name
        found = results_page.read_results(folder, [row.name for row in suite.rows])
        assert set(found) == {row.name for row in suite.rows}, name
        assert results_page.part(found, suite) in page
        assert (REPOSITORY / "docs" / "images" / f"adaptation_{name}.svg").is_file()


def test_a_page_without_a_place_for_the_tables_is_named(results, tmp_path):
    (tmp_path / "results.md").write_text("nothing")
    folder = REPOSITORY / "benchmarks" / "results" / "adaptation"
    with pytest.raises(UserError, match="<!-- segmentation: begin -->"):
        results_page.write_page(folder, tmp_path)


def test_every_method_has_a_row():
    methods = {row.script[-1] for row in SUITES["segmentation"].rows}
    assert methods == set(METHODS)


def test_branches_start_from_the_source_stage_of_their_seed(tmp_path):
    suite = SUITES["detection_clear_foggy"]
    rows = {row.name: row for row in suite.rows}
    command = suite.command(rows["source_only"], 1, tmp_path / "source_only")
    assert command[command.index("MODEL.WEIGHTS") + 1] == str(tmp_path / "source_stage")
    assert command[command.index("SAP.ENABLED") + 1] == "False"
    command = suite.command(rows["oracle"], 1, tmp_path / "oracle")
    assert "[toy_foggy_cityscapes_train]" in command
    assert "MODEL.WEIGHTS" not in suite.command(rows["source_stage"], 1, tmp_path / "source_stage")
