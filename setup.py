"""What is installed; the rest is in setup.cfg. The experiments become `shared/configs`."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["shared*", "seg_adapt*", "det_adapt*", "street_adapt*"]),
        "shared.configs",
    ],
    package_dir={"shared.configs": "configs"},
    package_data={"shared.configs": ["*.yaml", "_base_/*.yaml"], "shared.report": ["*.j2"]},
)
