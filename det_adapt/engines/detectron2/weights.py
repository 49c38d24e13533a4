"""What MODEL.WEIGHTS names, into a detector, with an account of what went where."""

import logging
from collections.abc import Mapping

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from det_adapt.engines.torchvision.names import from_imagenet, to_detectron2
from det_adapt.engines.torchvision.weights import LoadReport, download, imagenet_name
from shared import checkpoint
from shared.errors import UserError

logger = logging.getLogger(__name__)

_COUNTER = "num_batches_tracked"  # FrozenBN has none


def initialise(model: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """Fills `model` by MODEL.WEIGHTS: '' leaves it, 'torchvision' downloads, all else is a file.

    A file is a checkpoint of either engine, torchvision's own weights, or a .pkl or address that
    Detectron2 knows, which it loads and reports itself.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return None
    if weights.endswith(".pkl") or "://" in weights:
        DetectionCheckpointer(model).load(weights)
        return None
    if weights == "torchvision":
        state = download(imagenet_name(cfg))
    else:
        stored = checkpoint.load(weights)
        state = stored.get("model", stored)
    report = fill(model, state, weights)
    logger.info("%s: %s", weights, report)
    return report


def fill(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> LoadReport:
    """Copies the tensors of `state`, under either engine's names or torchvision's, that fit.

    Args:
        origin: names the file in messages.

    Raises:
        UserError: nothing of the backbone is filled.
    """
    if "layer1.0.conv1.weight" in state or "features.0.weight" in state:
        state = from_imagenet(state)
    state = {n: t for n, t in to_detectron2(state).items() if not n.endswith(_COUNTER)}
    own = {n: t for n, t in model.state_dict().items() if not n.endswith(_COUNTER)}
    fitting = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    if not any(name.startswith("backbone.") for name in fitting):
        raise UserError(
            f"'{origin}' fills nothing of the backbone: it is of another MODEL.BACKBONE, depth or "
            "width"
        )
    model.load_state_dict(fitting, strict=False)
    return LoadReport(
        matched=list(fitting),
        missing=[name for name in own if name not in state],
        misshapen=[name for name in own if name in state and name not in fitting],
        unexpected=[name for name in state if name not in own],
    )
