"""The two engines: Detectron2 where it is installed, torchvision everywhere."""

from importlib.util import find_spec

from det_adapt.config import INSTALL_DETECTRON2
from shared.errors import UserError

ENGINES = ("auto", "detectron2", "torchvision")


def choose_engine(name: str) -> str:
    """`detectron2` or `torchvision`; `auto` is Detectron2 where it can be imported."""
    if name not in ENGINES:
        raise UserError(f"got --engine {name}, expected one of {', '.join(ENGINES)}")
    installed = find_spec("detectron2") is not None
    if name == "detectron2" and not installed:
        raise UserError(
            "--engine detectron2 needs Detectron2, which is not installed: see "
            f"{INSTALL_DETECTRON2}, or use --engine torchvision"
        )
    if name == "auto":
        return "detectron2" if installed else "torchvision"
    return name
