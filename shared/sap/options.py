"""The keys of the node `SAP`, declared once for both halves."""

from dataclasses import dataclass
from typing import Annotated, Literal

from shared.options import (
    NonNegativeFloat,
    NonNegativeInt,
    Options,
    PositiveInts,
    Rule,
)

EvenChannels = Annotated[int, Rule(lambda c: c >= 4 and c % 2 == 0, "an even number >= 4")]
OddKernel = Annotated[int, Rule(lambda k: k >= 1 and k % 2 == 1, "an odd number >= 1: 1 or 3")]
Dropout = Annotated[float, Rule(lambda p: 0 <= p < 1, "0 <= p < 1")]


@dataclass(frozen=True)
class SapOptions(Options, node="SAP"):
    """The pyramid, its loss, and the defaults: those of semantic segmentation."""

    levels: PositiveInts = (3, 9, 15, 21, 27, 33, 39, 45, 51)  # pooling windows K, in cells
    pyramid: bool = True  # False: no levels, masks or weights; embedding, global mean ("w/o SA")
    pooling: Literal["avg", "max"] = "avg"  # max: ablation
    channel_attention: bool = True  # False: the mean of the levels ("w/o CA")
    embed_channels: EvenChannels = 256  # C; z has half as many
    embed_kernel: OddKernel = 1  # of the embedding's three convolutions; 3: released code
    embed_norm: Literal["gn", "bn"] = "gn"  # bn: released code
    embed_dropout: Dropout = 0.0  # 0.5: released code
    guide: bool = True  # False: masks from the features alone ("w/o GM")
    # G of the guide's first convolution; 0: as many as the features
    guide_channels: NonNegativeInt = 256
    guide_kernel: OddKernel = 3  # of its three convolutions
    guide_sigmoid: bool = False  # of the guide, before it is used
    guide_detach: bool = False  # no adversarial gradient into the task's head through the guide
    align_corners: bool = False  # of the guide's resizing; True: released code
    # bn: released code; needs 2 images per domain and forward, in detection of all processes
    z_norm: Literal["ln", "bn"] = "ln"
    loss_weight: NonNegativeFloat = 0.1  # lambda of Eq. 6
    # of the two domains' cross-entropies; mean: Eq. 4's letter
    loss_reduction: Literal["sum", "mean"] = "sum"
    grl_scale: NonNegativeFloat = 1.0  # of the reversed gradient alone; the pyramid's keeps lambda
    lr_mult: NonNegativeFloat = 1.0  # of the pyramid's learning rate
