"""Who may import whom."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
HALVES = ("seg_adapt", "det_adapt")
SCRIPTS = "datasets"
ABOVE = ("street_adapt", SCRIPTS)

# Importer's prefix → prefixes that it must not import.
FORBIDDEN = {
    "shared": (*HALVES, *ABOVE),
    "seg_adapt": ("det_adapt", *ABOVE),
    "det_adapt": ("seg_adapt", *ABOVE),
    "seg_adapt.data": ("seg_adapt.models", "seg_adapt.methods", "seg_adapt.engine"),
    "seg_adapt.models": ("seg_adapt.data", "seg_adapt.methods", "seg_adapt.engine"),
    "seg_adapt.losses": ("seg_adapt.data", "seg_adapt.methods", "seg_adapt.engine"),
    "seg_adapt.methods": ("seg_adapt.data", "seg_adapt.evaluation", "seg_adapt.engine"),
    "seg_adapt.evaluation": ("seg_adapt.engine",),
    "det_adapt.data": ("det_adapt.engines", "det_adapt.evaluation"),
    "det_adapt.evaluation": ("det_adapt.engines", "det_adapt.data"),
    "det_adapt.torchvision_engine": ("det_adapt.detectron2_engine", "det_adapt.evaluation"),
    "det_adapt.detectron2_engine": ("det_adapt.evaluation",),
}
DETECTRON2_ENGINE = "det_adapt.detectron2_engine"

# In shared although only one half uses them today, and why.
ONE_HALF_ONLY = {
    "shared.discriminators": "a building block of adversarial adaptation, as the GRL is",
}


def module_name(path):
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path):
    """Modules that a file imports: `from a import b` is a.b where that is a module of ours."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module for name in names)


FILES = {
    module_name(path): path
    for package in ("shared", *HALVES, *ABOVE)
    for path in (REPOSITORY / package).rglob("*.py")
}
IMPORTS = {name: set(imports_of(path)) for name, path in FILES.items()}


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


def reached_from(prefix):
    """All modules that those of `prefix` import, directly or through others."""
    reached = set()
    rest = [name for name in FILES if within(name, prefix)]
    while rest:
        new = IMPORTS.get(rest.pop(), set()) - reached
        reached |= new
        rest += new
    return reached


def test_imports_follow_the_direction():
    violations = [
        f"{name} imports {imported}"
        for name, imports in IMPORTS.items()
        for imported in imports
        for importer, forbidden in FORBIDDEN.items()
        if within(name, importer) and any(within(imported, f) for f in forbidden)
    ]
    violations += [
        f"{name} imports {imported}"
        for name, imports in IMPORTS.items()
        for imported in imports
        if within(imported, "detectron2") and not within(name, DETECTRON2_ENGINE)
    ]
    assert violations == []


def test_nothing_imports_itself_through_others():
    ours = {name: imports & FILES.keys() for name, imports in IMPORTS.items()}
    TopologicalSorter(ours).prepare()


def test_shared_holds_only_what_both_halves_or_a_script_use():
    both = set.intersection(*(reached_from(half) for half in HALVES))
    used = both | reached_from(SCRIPTS)
    unused = {
        name
        for name in FILES
        if within(name, "shared") and not any(within(module, name) for module in used)
    }
    assert unused == ONE_HALF_ONLY.keys()


def test_the_walk_sees_the_packages():
    assert len(FILES) > 50
    assert "shared.errors" in reached_from("seg_adapt") & reached_from("det_adapt")
