"""Detectron2's own tree of keys, with ours."""

from detectron2.config import CfgNode, get_cfg

from det_adapt.config import add_keys


def add_sap_config(cfg: CfgNode) -> None:
    """Declares the keys of this toolbox in a tree of Detectron2's."""
    add_keys(cfg)


def defaults() -> CfgNode:
    """What `shared.config.load_config` lays a YAML over, for this engine."""
    cfg = get_cfg()
    add_sap_config(cfg)
    return cfg
