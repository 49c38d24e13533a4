"""A segmentation network as named stages that can be cut between any two of them."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import BasicBlock, Bottleneck

from seg_adapt.models.preprocessing import Preprocessing
from shared.errors import UserError

AUXILIARY = "auxiliary"  # the stage that is a second head, beside the chain


class Outputs(NamedTuple):
    """One forward pass."""

    features: Tensor  # (N, C, h, w) at the cut asked for
    logits: Tensor  # (N, K, h, w) at the output stride
    auxiliary: Tensor | None = None  # (N, K, h, w) of the auxiliary head, in training only


class Segmentor(nn.Module):
    """Preprocessing and a chain of stages, from images to logits at the output stride.

    A cut is the name of a stage ("layer4": after it) or of one of its residual blocks ("layer4.1":
    after its second one).

    Args:
        stages: name to module, in the order they run; one named `auxiliary` is not of the chain.
        channels: output channels per stage.
        output_stride: input pixels per output cell.
        aligned: output cell i is centred on input pixel `output_stride * i`; otherwise on
            `output_stride * (i + 1/2) - 1/2`.
        align_corners: of the upsampling of logits.
        feature_stage: the deepest stage that ImageNet weights fill.
        head_stages: stages of new layers; the others are the backbone.
        bn: "train" (statistics of the batch) or "frozen" (running statistics whatever `train()`
            says). Concerns the backbone only: a new layer's running statistics mean nothing yet.
        bn_affine: whether the backbone's BatchNorm weights and biases are trained.
        freeze_stages: stages whose parameters are not trained at all.
        architecture: the name this was built from; tells which pretrained weights fit.
        auxiliary_from: the cut whose feature the stage `auxiliary`, a second head that only
            training uses, turns into logits; None without one.
        auxiliary_weight: of that head's loss.
    """

    def __init__(
        self,
        stages: Mapping[str, nn.Module],
        *,
        preprocessing: Preprocessing,
        num_classes: int,
        channels: Mapping[str, int],
        output_stride: int,
        aligned: bool,
        align_corners: bool,
        feature_stage: str,
        head_stages: tuple[str, ...],
        bn: str = "train",
        bn_affine: bool = True,
        freeze_stages: Sequence[str] = (),
        architecture: str = "",
        auxiliary_from: str | None = None,
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if bn not in ("train", "frozen"):
            raise UserError(f"unknown BatchNorm mode '{bn}': available: train, frozen")
        self.preprocessing = preprocessing
        self.stages = nn.ModuleDict(stages)
        self.num_classes = num_classes
        self.channels = dict(channels)
        self.output_stride = output_stride
        self.aligned = aligned
        self.align_corners = align_corners
        self.feature_stage = feature_stage
        self.head_stages = head_stages
        self.bn = bn
        self.architecture = architecture
        self.auxiliary_from = auxiliary_from
        self.auxiliary_weight = auxiliary_weight
        if not bn_affine:
            for norm in self._backbone_norms():
                norm.weight.requires_grad_(False)
                norm.bias.requires_grad_(False)
        for name in freeze_stages:
            if name not in self.stages:
                raise UserError(f"cannot freeze '{name}': stages are {', '.join(self.stages)}")
            self.stages[name].requires_grad_(False)
        self.train(self.training)

    def _backbone_norms(self) -> list[_BatchNorm]:
        return [
            module
            for name, stage in self.stages.items()
            if name not in self.head_stages
            for module in stage.modules()
            if isinstance(module, _BatchNorm)
        ]

    def set_bn(self, bn: str) -> None:
        """Changes how the backbone's BatchNorm runs from now on: "train" or "frozen"."""
        if bn not in ("train", "frozen"):
            raise UserError(f"unknown BatchNorm mode '{bn}': available: train, frozen")
        self.bn = bn
        self.train(self.training)

    def train(self, mode: bool = True) -> "Segmentor":
        super().train(mode)
        if self.bn == "frozen":
            for norm in self._backbone_norms():
                norm.eval()
        return self

    def _chain(self) -> list[str]:
        return [name for name in self.stages if name != AUXILIARY]

    def _units(self) -> list[tuple[str, nn.Module]]:
        units = []
        for name in self._chain():
            stage = self.stages[name]
            if isinstance(stage, nn.Sequential) and isinstance(stage[0], BasicBlock | Bottleneck):
                units += [(f"{name}.{child}", block) for child, block in stage.named_children()]
            else:
                units.append((name, stage))
        return units

    @property
    def cuts(self) -> dict[str, int]:
        """Every name that `run` takes, with the number of modules run before that cut."""
        cuts = {}
        for position, (name, _) in enumerate(self._units(), start=1):
            cuts[name] = cuts[name.partition(".")[0]] = position
        return cuts

    def _position(self, cut: str) -> int:
        cuts = self.cuts
        if cut not in cuts:
            stage = cut.partition(".")[0]
            inside = [name for name in cuts if name.startswith(stage + ".")]
            raise UserError(
                f"unknown stage '{cut}': available: {', '.join(inside or self._chain())}"
            )
        return cuts[cut]

    def channels_at(self, cut: str) -> int:
        """Channels of the feature at `cut`."""
        self._position(cut)
        return self.channels[cut.partition(".")[0]]

    def run(self, x: Tensor, *, after: str | None = None, until: str | None = None) -> Tensor:
        """Applies what comes after the cut `after`, up to and including `until`.

        Args:
            x: the feature at `after`; images (N, 3, H, W), RGB in 0..255, where that is None.
        """
        start = 0 if after is None else self._position(after)
        units = self._units()
        stop = len(units) if until is None else self._position(until)
        if stop < start:
            raise UserError(f"stage '{until}' comes before '{after}': swap `after` and `until`")
        if after is None:
            x = self.preprocessing(x)
        for _, module in units[start:stop]:
            x = module(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W), RGB in 0..255; returns logits (N, K, h, w) at output stride."""
        return self.run(images)

    def outputs(self, images: Tensor, cut: str | None = None) -> Outputs:
        """Everything one pass over images (N, 3, H, W) gives.

        Args:
            cut: where the features are taken; None: at `feature_stage`.
        """
        cut = cut or self.feature_stage
        branch = self.auxiliary_from if self.training else None
        at: dict[str, Tensor] = {}
        x, after = images, None
        for name in sorted({cut, branch} - {None}, key=self._position):
            x = at[name] = self.run(x, after=after, until=name)
            after = name
        logits = self.run(x, after=after)
        auxiliary = self.stages[AUXILIARY](at[branch]) if branch else None
        return Outputs(at[cut], logits, auxiliary)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """logits: (N, K, h, w); returns (N, K, *size), bilinear."""
        return F.interpolate(
            logits, size=tuple(size), mode="bilinear", align_corners=self.align_corners
        )

    def input_positions(self, count: int) -> Tensor:
        """The input pixel on which each of `count` output cells along an axis is centred."""
        index = torch.arange(count, dtype=torch.float32)
        if self.aligned:
            return self.output_stride * index
        return self.output_stride * (index + 0.5) - 0.5

    def parameter_groups(
        self,
        *,
        backbone_lr_mult: float = 1.0,
        head_lr_mult: float = 10.0,
        bias_lr_mult: float = 1.0,
        bias_decay: bool = True,
    ) -> list[dict[str, Any]]:
        """Every trainable parameter once: {"params", "lr_mult", "weight_decay_mult"} per group."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for stage_name, stage in self.stages.items():
            stage_mult = head_lr_mult if stage_name in self.head_stages else backbone_lr_mult
            for name, parameter in stage.named_parameters():
                if not parameter.requires_grad:
                    continue
                is_bias = name.rpartition(".")[2] == "bias"
                lr_mult = stage_mult * (bias_lr_mult if is_bias else 1.0)
                decay_mult = 0.0 if is_bias and not bias_decay else 1.0
                groups.setdefault((lr_mult, decay_mult), []).append(parameter)
        return [
            {"params": parameters, "lr_mult": lr_mult, "weight_decay_mult": decay_mult}
            for (lr_mult, decay_mult), parameters in groups.items()
        ]

    def frozen_copy(self, until: str) -> "FrozenCopy":
        """A copy of everything up to the cut `until`, as it is now, that nothing can change."""
        modules = [module for _, module in self._units()[: self._position(until)]]
        return FrozenCopy(nn.Sequential(self.preprocessing, *modules))


class FrozenCopy(nn.Module):
    """A teacher: images in, features out; eval mode, no gradient, whatever its parent is told.

    It owns no parameters and no state: a checkpoint does not repeat what the initial weights
    hold, and an optimizer cannot reach it. It moves between devices and types with its parent.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        frozen = copy.deepcopy(network).eval().requires_grad_(False)
        # In a tuple the network is not a registered child, which is what hides it.
        self._held = (frozen,)

    def _apply(self, fn, recurse: bool = True) -> "FrozenCopy":
        self._held[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """images: (N, 3, H, W), RGB in 0..255; returns the feature (N, C, h, w)."""
        return self._held[0](images)
