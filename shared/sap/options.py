"""The keys of the node `SAP`, declared once for both halves."""

import math
from dataclasses import dataclass, fields

from fvcore.common.config import CfgNode

from shared.config import options_from
from shared.errors import UserError

_CHOICES = {
    "embed_norm": ("gn", "bn"),
    "z_norm": ("ln", "bn"),
    "pooling": ("avg", "max"),
    "loss_reduction": ("sum", "mean"),
}
_AT_LEAST = {"guide_channels": 0, "loss_weight": 0, "grl_scale": 0, "lr_mult": 0}


@dataclass(frozen=True)
class SapOptions:
    """The pyramid, its loss, and the defaults: those of semantic segmentation."""

    levels: tuple[int, ...] = (3, 9, 15, 21, 27, 33, 39, 45, 51)  # pooling windows K, in cells
    pyramid: bool = True  # False: no levels, masks or weights; embedding, global mean ("w/o SA")
    pooling: str = "avg"  # avg | max (ablation)
    channel_attention: bool = True  # False: the mean of the levels ("w/o CA")
    embed_channels: int = 256  # C; z has half as many
    embed_kernel: int = 1  # of the embedding's three convolutions; 3: released code
    embed_norm: str = "gn"  # gn | bn (released code)
    embed_dropout: float = 0.0  # 0.5: released code
    guide: bool = True  # False: masks from the features alone ("w/o GM")
    guide_channels: int = 256  # G of the guide's first convolution; 0: as many as the features
    guide_sigmoid: bool = False  # of the guide, before it is used
    guide_detach: bool = False  # no adversarial gradient into the task's head through the guide
    align_corners: bool = False  # of the guide's resizing; True: released code
    z_norm: str = "ln"  # ln | bn (released code; needs 2 images per domain and forward)
    loss_weight: float = 0.1  # lambda of Eq. 6
    loss_reduction: str = "sum"  # of the two domains' cross-entropies; mean: Eq. 4's letter
    grl_scale: float = 1.0  # of the reversed gradient alone; the pyramid's own keeps lambda
    lr_mult: float = 1.0  # of the pyramid's learning rate

    def __post_init__(self) -> None:
        whole = all(type(kernel) is int and kernel >= 1 for kernel in self.levels)
        if not self.levels or not whole:
            raise UserError(
                f"SAP.LEVELS is {list(self.levels)}, expected whole numbers >= 1, e.g. [3, 9, 15]"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UserError(
                    f"SAP.{name.upper()} is '{getattr(self, name)}', "
                    f"expected one of {', '.join(known)}"
                )
        for name, low in _AT_LEAST.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise UserError(f"SAP.{name.upper()} is {value}, expected at least {low}")
        if self.embed_channels < 4 or self.embed_channels % 2:
            raise UserError(
                f"SAP.EMBED_CHANNELS is {self.embed_channels}, expected an even number >= 4"
            )
        if self.embed_kernel < 1 or self.embed_kernel % 2 == 0:
            raise UserError(
                f"SAP.EMBED_KERNEL is {self.embed_kernel}, expected an odd number >= 1: 1 or 3"
            )
        if not 0 <= self.embed_dropout < 1:
            raise UserError(f"SAP.EMBED_DROPOUT is {self.embed_dropout}, expected 0 <= p < 1")


def add_sap_keys(cfg: CfgNode, defaults: SapOptions) -> None:
    """Declares `cfg.SAP`: one key per option, in upper case, with the experiment's `defaults`."""
    cfg.SAP = CfgNode()
    for field in fields(SapOptions):
        value = getattr(defaults, field.name)
        cfg.SAP[field.name.upper()] = list(value) if isinstance(value, tuple) else value


def sap_options(cfg: CfgNode) -> SapOptions:
    """The options that `cfg.SAP` holds; UserError naming the key of one that cannot be used."""
    return options_from(SapOptions, cfg.SAP)
