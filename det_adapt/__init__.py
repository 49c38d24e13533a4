"""SAPNet and DA-Faster for detectors, on Detectron2 or torchvision.

Where Detectron2 is installed, importing this registers what its tools find by name: the meta-
architecture SAPRCNN, the backbones build_vgg16_backbone and build_timm_fpn_backbone, every data set
(docs/detectron2.md).
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from warnings import warn

if TYPE_CHECKING:
    from det_adapt.config import add_sap_config
    from det_adapt.da_faster import DaFasterOptions
    from det_adapt.detectron2_engine import (
        SAPRCNN,
        PairedTrainLoader,
        SapTrainer,
        register_datasets,
    )
    from det_adapt.sap_plan import SapPlan
    from shared.sap import SapOptions

__all__ = [
    "SAPRCNN",
    "DaFasterOptions",
    "PairedTrainLoader",
    "SapOptions",
    "SapPlan",
    "SapTrainer",
    "add_sap_config",
    "register_datasets",
]
_HOMES = {
    "DaFasterOptions": "det_adapt.da_faster",
    "SapOptions": "shared.sap",
    "SapPlan": "det_adapt.sap_plan",
    "add_sap_config": "det_adapt.config",
}


def __getattr__(name: str) -> Any:
    # Not at the top: where Detectron2 is missing, nothing here may import it, or take a second.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "det_adapt.detectron2_engine")), name)


if find_spec("detectron2") is not None:
    try:
        import_module("det_adapt.detectron2_engine")
    except ImportError as error:
        warn(f"Detectron2 cannot be imported, det_adapt works without it: {error}", stacklevel=2)
