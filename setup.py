"""What is installed; the rest is in setup.cfg. configs/ and datasets/ move into `shared`."""

from setuptools import find_packages, setup

setup(
    py_modules=["street_adapt"],
    packages=[
        *find_packages(include=["shared*", "seg_adapt*", "det_adapt*"]),
        "shared.configs",
        "shared.datasets",
    ],
    package_dir={"shared.configs": "configs", "shared.datasets": "datasets"},
    package_data={"shared.configs": ["*.yaml", "_base_/*.yaml"], "shared.report": ["*.j2"]},
)
