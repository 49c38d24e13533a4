"""`MODEL.WEIGHTS` into a detector of either engine."""

import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.timm_body import TIMM
from det_adapt.weight_names import from_torchvision, timm_names
from shared.config import flatten
from shared.errors import MissingFileError, UserError
from shared.timm_networks import PREFIX, packaged_weights, timm_weights
from shared.weights import LoadReport, download, fetch, fill, read_state_dict

logger = logging.getLogger(__name__)

# A name of every file of torchvision's.
_OF_TORCHVISION = {"layer1.0.conv1.weight", "features.0.weight", "backbone.body.conv1.weight"}
_PACKAGE = "pip:"
_PYRAMID = ("backbone.fpn.", "backbone.fpn_")  # no classifier has one
_BODY = ("backbone.body.", "backbone.bottom_up.")
# Detectron2's files have them as well; here they follow from the config.
_OF_NO_LAYER = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
# What the pickles of Detectron2's model zoo consist of: arrays, nothing that runs.
_OF_ARRAYS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


def load_weights(
    detector: nn.Module, cfg: CfgNode, rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> LoadReport | None:
    """Fills `detector` as MODEL.WEIGHTS says, and logs what was loaded: '' trains from scratch,
    'torchvision' downloads ImageNet's; 'timm' and 'pip:…' are those of a network of timm; all else
    is a file or the address of one: of either engine, of Detectron2's model zoo, or torchvision's
    or timm's own.

    Args:
        rename: `to_detectron2` or `from_detectron2`, whichever the detector's names ask for.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return None
    state = _read_timm(cfg, detector)
    if state is None:
        state = rename(_read_detector(cfg, pyramid=_has_pyramid(detector)))
    report = fill_detector(detector, state, weights)
    logger.info("%s: %s", weights, report)
    return report


def _read_detector(cfg: CfgNode, *, pyramid: bool) -> dict[str, Tensor]:
    """`MODEL.WEIGHTS` under the torchvision engine's names."""
    weights = cfg.MODEL.WEIGHTS
    state = download(_imagenet_name(cfg)) if weights == "torchvision" else _read(weights)
    of_torchvision = not _OF_TORCHVISION.isdisjoint(state)
    if of_torchvision:
        _check_conventions(cfg)
    state = from_torchvision(state, pyramid=pyramid)
    if of_torchvision and not cfg.MODEL.VGG.PRETRAINED_FC:
        state = {n: t for n, t in state.items() if not n.startswith("roi_heads.box_head.fc")}
    return state


def _read_timm(cfg: CfgNode, detector: nn.Module) -> dict[str, Tensor] | None:
    """`MODEL.WEIGHTS` of a network of timm alone, under the detector's names; None: of others."""
    weights, network = cfg.MODEL.WEIGHTS, cfg.MODEL.TIMM.NAME.removeprefix(PREFIX)
    published = weights.removeprefix(_PACKAGE)
    if cfg.MODEL.BACKBONE.NAME != TIMM:
        if weights == "timm" or published != weights:
            raise UserError(
                f"MODEL.WEIGHTS {weights} is for a network of timm, and MODEL.BACKBONE.NAME is "
                f"{cfg.MODEL.BACKBONE.NAME}: set it to {TIMM}"
            )
        return None
    if weights == "timm":
        state = timm_weights(network)
    elif published != weights:
        state = packaged_weights(published)
        if network != f"tf_{published}":  # of another padding, mean and deviation
            raise UserError(
                f"MODEL.WEIGHTS {weights} was made for tf_{published}, and MODEL.TIMM.NAME is "
                f"{network}"
            )
    elif weights == "torchvision":
        raise UserError(
            f"MODEL.WEIGHTS torchvision has no {network}: set it to timm, pip:… or a file"
        )
    elif any(name.startswith("backbone.") for name in _read(weights)):
        return None
    else:
        state = timm_weights(network, fetch(weights) if "://" in weights else Path(weights))
    own = timm_names(detector.state_dict())
    return {own[name]: tensor for name, tensor in state.items() if name in own}


def fill_detector(detector: nn.Module, state: Mapping[str, Tensor], origin: str) -> LoadReport:
    """Copies the tensors of `state`, under the detector's names, that have a place.

    Args:
        origin: names the file in messages.

    Raises:
        UserError: the backbone is not filled whole.
    """

    def check(report: LoadReport) -> None:
        faults = {name: f"has shape {shapes}" for name, shapes in report.misshapen.items()}
        faults |= dict.fromkeys(report.missing, "is missing")
        for name, fault in faults.items():
            if name.startswith("backbone.") and not name.startswith(_PYRAMID):
                raise UserError(
                    f"'{origin}' does not fit MODEL.BACKBONE: {name} {fault}; it is of another "
                    "backbone, depth or width"
                )

    return fill(detector, state, check)


def _has_pyramid(detector: nn.Module) -> bool:
    return any(name.startswith(_BODY) for name, _ in detector.named_parameters())


def _read(weights: str) -> dict[str, Tensor]:
    """The tensors of a file, or of one at an address."""
    file = fetch(weights) if "://" in weights else Path(weights)
    state = _read_pickle(file) if file.suffix == ".pkl" else read_state_dict(file)[0]
    return {name: x for name, x in state.items() if not name.startswith(_OF_NO_LAYER)}


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """A file of Detectron2's model zoo, which holds numpy's arrays."""
    if not file.is_file():
        raise MissingFileError(f"no weights file '{file}' (MODEL.WEIGHTS)")
    try:
        with file.open("rb") as opened:
            stored = _ArraysOnly(opened, encoding="latin1").load()["model"]
        return {name: torch.from_numpy(array) for name, array in stored.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{file}' is no file of Detectron2's model zoo ({error}): expected a pickle of arrays "
            "by name under 'model'"
        ) from error


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _OF_ARRAYS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _imagenet_name(cfg: CfgNode) -> str:
    """torchvision's name of the classifier that `MODEL.BACKBONE` was taken from."""
    if cfg.MODEL.BACKBONE.NAME == "build_vgg16_backbone":
        return "vgg16"
    return f"resnet{cfg.MODEL.RESNETS.DEPTH}"


def _check_conventions(cfg: CfgNode) -> None:
    """What torchvision's weights rely on and no tensor's shape shows."""
    made_for = {"INPUT.FORMAT": "RGB"}
    if "resnet" in cfg.MODEL.BACKBONE.NAME and cfg.MODEL.RESNETS.DEPTH >= 50:
        made_for["MODEL.RESNETS.STRIDE_IN_1X1"] = False
    values = flatten(cfg)
    for key, expected in made_for.items():
        if values[key] != expected:
            raise UserError(
                f"{key} is {values[key]}, and torchvision's weights were made for {expected}"
            )
