"""Who may import whom."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("shared", "seg_adapt", "det_adapt")

# Importer's prefix → prefixes of ours that it must not import.
FORBIDDEN = {
    "shared": ("seg_adapt", "det_adapt"),
    "seg_adapt": ("det_adapt",),
    "det_adapt": ("seg_adapt",),
    "seg_adapt.methods": ("seg_adapt.engine", "seg_adapt.evaluation"),
    "seg_adapt.models": ("seg_adapt.methods", "seg_adapt.engine", "seg_adapt.data"),
    "seg_adapt.data": ("seg_adapt.methods", "seg_adapt.engine", "seg_adapt.models"),
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


MODULES = sorted(p for name in PACKAGES for p in (REPOSITORY / name).rglob("*.py"))


def module_name(path):
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_follow_the_direction(path):
    name = module_name(path)
    for importer, forbidden in FORBIDDEN.items():
        if within(name, importer):
            for imported in imports_of(path):
                assert not any(within(imported, f) for f in forbidden), imported
    if not within(name, "det_adapt.detectron2_engine"):
        assert not any(within(i, "detectron2") for i in imports_of(path))


def test_the_walk_sees_the_packages():
    assert len(MODULES) > 50
