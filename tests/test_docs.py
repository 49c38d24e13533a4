"""What the documentation names exists, and every experiment builds."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from fvcore.common.config import CfgNode

import street_adapt
from det_adapt.config import defaults as detection_defaults
from det_adapt.engines import engine_config
from det_adapt.torchvision_engine import SapRCNN
from seg_adapt.config import check, defaults
from seg_adapt.engine.build import (
    build_method,
    transform_from_config,
)
from seg_adapt.engine.stages import plan_stages
from seg_adapt.evaluation.inference import Windows
from seg_adapt.models.build import build_segmentor
from seg_adapt.options import LayerRates, ModelOptions
from shared.config import load_config
from shared.data.catalog import SEGMENTATION
from shared.data.label_maps import label_space
from shared.data.own import split_names
from shared.domain_losses import Domain

REPOSITORY = Path(__file__).parents[1]
METHODS_PAGE = (REPOSITORY / "docs" / "methods.md").read_text()


def is_detection(path):
    """Detection's files have Detectron2's keys, and a test of their own."""
    return "META_ARCHITECTURE" in CfgNode.load_yaml_with_base(str(path)).get("MODEL", {})


CONFIGS = [p for p in sorted((REPOSITORY / "configs").glob("*.yaml")) if not is_detection(p)]
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("datasets/*.md")]


def names_in(path):
    """Functions, classes and `Class.method`s of a module."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
    return names


def test_every_reference_to_code_resolves():
    references = re.findall(r"`([\w/]+\.py)::([\w.]+)`", METHODS_PAGE)
    assert len(references) > 15
    for file, name in references:
        assert name in names_in(REPOSITORY / file), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_files_exist(page):
    text = page.read_text()
    for name in re.findall(
        r"`((?:configs|docs|datasets|benchmarks|tests|\w+_adapt|shared)/[\w/]+\.\w+)", text
    ):
        assert (REPOSITORY / name).is_file(), name
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def has_key(cfg, key):
    for part in key.split("."):
        if part not in cfg:
            return False
        cfg = cfg[part]
    return True


RENAMED_KEY = re.compile(r"^\| `([A-Z_.]+)` \| `([A-Z_.]+)` \|$", re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_keys_exist(page):
    text = RENAMED_KEY.sub(r"`\2`", page.read_text())
    for code in re.findall(r"`([^`]+)`", text):
        for key in re.findall(r"(?<![\w/])(?:[A-Z][A-Z_]*\.)+[A-Z][A-Z_]*(?![\w/])", code):
            assert any(has_key(tree, key) for tree in (defaults(), detection_defaults())), key


def test_the_network_of_the_contributing_page_is_built():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    exec(compile(example, "CONTRIBUTING.md", "exec"), {})
    segmentor = build_segmentor(ModelOptions(architecture="my_network"), 7)
    assert segmentor(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape == (1, 7, 8, 12)


def test_renamed_keys_are_gone():
    renamed = RENAMED_KEY.findall((REPOSITORY / "CHANGELOG.md").read_text())
    assert len(renamed) > 15
    assert [old for old, _ in renamed if has_key(defaults(), old)] == []
    assert [new for _, new in renamed if not has_key(defaults(), new)] == []


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == street_adapt.__version__
    papers = [paper["title"] for paper in citation["references"]]
    methods = " ".join(METHODS_PAGE.split())
    assert len(papers) == 6 and [title for title in papers if title not in methods] == []


def build(cfg):
    check(cfg)
    space = label_space(cfg.DATASETS.LABEL_SPACE)
    for key in ("TRAIN", "TARGET", "TEST"):
        # Pictures only: nothing is scored.
        names = split_names(cfg.DATASETS[key])
        assert all(n in SEGMENTATION for n in names) or (key == "TEST" and not cfg.DATASETS.TEST)
    for domain in Domain:
        transform_from_config(cfg, domain)
    Windows.from_config(cfg)
    # Full networks, without their memory.
    with torch.device("meta"):
        return build_method(cfg, space.num_classes)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_experiment_builds_and_says_what_it_is(path):
    assert path.read_text().startswith("# ")
    cfg = load_config(defaults(), path)
    method = build(cfg)
    assert {name.upper() for name in method.groups(LayerRates())} <= set(cfg.SOLVER)
    assert plan_stages(cfg, method)


ROWS = [
    (config, overrides)
    for config, table in re.findall(
        r"overrides of `(configs/\w+\.yaml)`(.*?)(?=overrides of|\n## |\Z)", METHODS_PAGE, re.S
    )
    for overrides in re.findall(r"^\| [^|]+ \| `([A-Z][^`]+)` \|", table, re.M)
]


@pytest.mark.parametrize(("config", "overrides"), ROWS)
def test_every_ablation_builds(config, overrides):
    path, overrides = REPOSITORY / config, shlex.split(overrides)
    if not is_detection(path):
        build(load_config(defaults(), path, overrides))
        return
    with torch.device("meta"):
        SapRCNN(engine_config("torchvision", path, overrides))


def test_the_ablations_were_found():
    assert len(ROWS) >= 9
