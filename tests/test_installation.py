"""What is installed, and what a foreign package called `shared` does to it."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("shared", "seg_adapt", "det_adapt", "street_adapt", "configs")
SCRIPTS = [
    *("seg_adapt/train.py", "seg_adapt/predict.py", "seg_adapt/convert_weights.py"),
    *("det_adapt/train_net.py", "det_adapt/predict.py"),
    *("datasets/make_toy.py", "datasets/check.py"),
]


def test_all_files_of_the_packages_are_installed(tmp_path):
    pytest.importorskip("setuptools")
    library = tmp_path / "library"
    egg, build = ("egg_info", "--egg-base", tmp_path), ("build_py", "--build-lib", library)
    setup = [sys.executable, "setup.py", "--quiet", *map(str, (*egg, *build))]
    subprocess.run(setup, cwd=REPOSITORY, check=True, timeout=120)
    installed = {str(path.relative_to(library)) for path in library.rglob("*.*")}
    ours = {
        str(path.relative_to(REPOSITORY)).replace("configs/", "shared/configs/")
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.*")
        if path.suffix != ".pyc"
    }
    assert installed == ours and "shared/configs/toy.yaml" in ours


def python(*arguments, first):
    """Python in the folder `first`, which also comes first on its path."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=first,
        env={"PYTHONPATH": f"{first}:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(params=["a package", "a module", "one with the same names"])
def foreign(request, tmp_path):
    """A folder with another `shared`."""
    if request.param == "a module":
        (tmp_path / "shared.py").touch()
    else:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "__init__.py").touch()
    if request.param == "one with the same names":
        (tmp_path / "shared" / "cli.py").write_text("def run(main): pass\n")
    return tmp_path


def test_a_foreign_shared_is_one_line_and_exit_code_2(foreign):
    result = python("-m", "street_adapt", "check", "--help", first=foreign)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "another package 'shared'" in result.stderr and str(foreign / "shared") in result.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_in_one_line_that_another_shared_may_hide_ours(script, tmp_path):
    (tmp_path / "shared.py").touch()
    result = python(REPOSITORY / script, "--help", first=tmp_path)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "another 'shared' hides ours" in result.stderr


@pytest.mark.parametrize(
    "program", ["import street_adapt; street_adapt.load", "from street_adapt import Adaptation"]
)
def test_from_python_a_foreign_shared_is_an_import_error(program, foreign):
    result = python("-c", program, first=foreign)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("ImportError: another package 'shared'")


def test_a_mere_folder_called_shared_hides_nothing(tmp_path):
    (tmp_path / "shared").mkdir()
    assert python("-m", "street_adapt", "toy", "--help", first=tmp_path).returncode == 0
