"""The toolbox from Python: predict with a trained run of either half, train on your own loader.

Predict, whatever the run was – a method's segmentation or a detector of either engine:

>>> import street_adapt
>>> model = street_adapt.load("runs/toy/road")
>>> train_ids = model("frame.png")  # or an array (H, W, 3), or a tensor (3, H, W)
>>> model.folder("frames", "predictions")
2

Train any method of segmentation on batches that you bring:

>>> import torch
>>> tiny = ["MODEL.ARCHITECTURE", "resnet18", "MODEL.WIDTH", "0.125", "MODEL.WEIGHTS", ""]
>>> adaptation = street_adapt.Adaptation("adaptseg", num_classes=5, overrides=tiny)
>>> images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
>>> logs = adaptation.step(images, torch.randint(0, 5, (2, 64, 96)), images.flip(0))
>>> sorted(name for name in logs if name.startswith("loss/"))
['loss/adversarial', 'loss/discriminator', 'loss/seg']
>>> adaptation.predict(images).shape
torch.Size([2, 64, 96])
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from street_adapt.api import Adaptation, load

__all__ = ["Adaptation", "load"]
__version__ = "0.1.0"


_SHARED = Path(__file__).resolve().parents[1] / "shared"


def check_shared() -> None:
    """ImportError, in one line, where another package called `shared` comes first on the path."""
    spec = find_spec("shared")
    if spec is None:
        return  # its import says so
    folders = spec.submodule_search_locations or [spec.origin]
    if not any(Path(folder).resolve() == _SHARED for folder in folders):
        raise ImportError(
            f"another package 'shared', {next(iter(folders))}, hides that of street-adapt, "
            f"{_SHARED}: take it off PYTHONPATH, or work in another folder"
        )


def __getattr__(name: str) -> Any:
    # Not at the top: PyTorch takes a second, which `street-adapt --help` need not wait for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_shared()
    return getattr(import_module("street_adapt.api"), name)
