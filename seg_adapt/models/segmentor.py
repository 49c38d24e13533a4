"""A segmentation network as named stages that can be cut between any two of them."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from seg_adapt.models.parts import AUXILIARY, Outputs, Parts
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.options import LayerRates
from shared.errors import UserError


class Segmentor(nn.Module):
    """Preprocessing and a chain of stages, from images to logits at the output stride.

    A cut is the name of a stage ("layer4": after it) or of one of its blocks ("layer4.1": after its
    second one). The parts' numbers are attributes.

    Args:
        num_classes: channels of the logits.
        architecture: what the parts are of; tells which pretrained weights fit.
        align_corners: of the upsampling of logits.
        bn: "train" (statistics of the batch) or "frozen" (running statistics whatever `train()`
            says). Concerns the backbone only: a new layer's running statistics mean nothing yet.
    """

    def __init__(
        self,
        parts: Parts,
        num_classes: int,
        preprocessing: Preprocessing,
        *,
        architecture: str,
        align_corners: bool = False,
        bn: Literal["train", "frozen"] = "train",
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.stages = nn.ModuleDict(parts.stages)
        self.num_classes = num_classes
        self.channels = parts.channels
        self.feature_stage = parts.feature_stage
        self.head_stages = parts.head_stages
        self.head_inputs = parts.head_inputs
        self.blocks = parts.blocks
        self.aligned = parts.aligned
        self.output_stride = parts.output_stride
        self.strides = parts.strides
        self.auxiliary_from = parts.auxiliary_from
        self.auxiliary_weight = parts.auxiliary_weight
        self.architecture = architecture
        self.align_corners = align_corners
        self.set_bn(bn)

    def freeze(self, stages: Sequence[str], *, bn_affine: bool) -> None:
        """Excludes whole stages, and the backbone's BatchNorm weights and biases, from training.

        Args:
            bn_affine: False excludes the latter.
        """
        if not bn_affine:
            for norm in self._backbone_norms():
                norm.requires_grad_(False)
        for name in stages:
            if name not in self.stages:
                raise UserError(f"cannot freeze '{name}': stages are {', '.join(self.stages)}")
            self.stages[name].requires_grad_(False)

    def _backbone_norms(self) -> list[_BatchNorm]:
        return [
            module
            for name, stage in self.stages.items()
            if name not in self.head_stages
            for module in stage.modules()
            if isinstance(module, _BatchNorm)
        ]

    def set_bn(self, bn: Literal["train", "frozen"]) -> None:
        """Changes how the backbone's BatchNorm runs from now on: "train" or "frozen"."""
        self.bn = bn
        self.train(self.training)

    def train(self, mode: bool = True) -> "Segmentor":
        super().train(mode)
        if self.bn == "frozen":
            for norm in self._backbone_norms():
                norm.eval()
        return self

    @property
    def chain(self) -> list[str]:
        """The stages from images to logits, in the order they run."""
        return [name for name in self.stages if name != AUXILIARY]

    @property
    def before_last(self) -> str:
        """The stage whose map the last one, the classifier, turns into logits."""
        return self.chain[-2]

    def _units(self) -> list[tuple[str, nn.Module]]:
        units = []
        for name in self.chain:
            if name not in self.blocks:
                units.append((name, self.stages[name]))
                continue
            group = []
            for child, block in self.stages[name].named_children():
                group.append(block)
                if child in self.blocks[name]:
                    module = block if len(group) == 1 else nn.Sequential(*group)
                    units.append((f"{name}.{child}", module))
                    group = []
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
            raise UserError(f"unknown stage '{cut}': available: {', '.join(inside or self.chain)}")
        return cuts[cut]

    def channels_at(self, cut: str) -> int:
        """Channels of the feature at `cut`."""
        self._position(cut)
        return self.channels.get(cut) or self.channels[cut.partition(".")[0]]

    def run(self, x: Tensor, *, after: str | None = None, until: str | None = None) -> Tensor:
        """Applies what comes after the cut `after`, up to and including `until`.

        Args:
            x: the feature at `after`; images (N, 3, H, W), RGB in 0..255, where that is None.
        """
        return self._run(x, after, until, {})

    def _run(
        self, x: Tensor, after: str | None, until: str | None, inputs: dict[str, Tensor]
    ) -> Tensor:
        """`run`; the maps that the head takes beside the last one are put into `inputs`."""
        start = 0 if after is None else self._position(after)
        units = self._units()
        stop = len(units) if until is None else self._position(until)
        if stop < start:
            raise UserError(f"stage '{until}' comes before '{after}': swap `after` and `until`")
        positions = {self._position(cut): cut for cut in self.head_inputs}
        if after is None:
            x = self.preprocessing(x)
        elif start in positions:
            inputs[positions[start]] = x
        for position, (name, module) in enumerate(units[start:stop], start=start + 1):
            if self.head_inputs and name == self.head_stages[0]:
                missing = [cut for cut in self.head_inputs if cut not in inputs]
                if missing:
                    raise ValueError(
                        f"the head also takes the map at {', '.join(missing)}, which comes before "
                        f"'{after}': use `split`"
                    )
                x = module([inputs[cut] for cut in self.head_inputs])
            else:
                x = module(x)
            if position in positions:
                inputs[positions[position]] = x
        return x

    def split(self, images: Tensor, cut: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The features of images (N, 3, H, W) at `cut`, and what makes logits of such features.

        The latter keeps what a head on several levels takes from before the cut, graph included.
        """
        inputs: dict[str, Tensor] = {}
        features = self._run(images, None, cut, inputs)
        kept = {name: x for name, x in inputs.items() if x is not features}
        return features, lambda features: self._run(features, cut, None, dict(kept))

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
        inputs: dict[str, Tensor] = {}
        x, after = images, None
        for name in sorted({cut, branch} - {None}, key=self._position):
            x = at[name] = self._run(x, after, name, inputs)
            after = name
        logits = self._run(x, after, None, inputs)
        auxiliary = self.stages[AUXILIARY](at[branch]) if branch else None
        return Outputs(at[cut], logits, auxiliary)

    def upsample(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """logits: (N, K, h, w); returns (N, K, *size), bilinear."""
        return F.interpolate(
            logits, size=tuple(size), mode="bilinear", align_corners=self.align_corners
        )

    def stride_at(self, cut: str) -> int:
        """Input pixels per cell of the feature at `cut`."""
        return self.strides.get(cut.partition(".")[0], self.output_stride)

    def input_positions(self, count: int, cut: str | None = None) -> Tensor:
        """The input pixel on which each of `count` cells along an axis is centered.

        Args:
            cut: whose cells; None: those of the logits.
        """
        stride = self.output_stride if cut is None else self.stride_at(cut)
        index = torch.arange(count, dtype=torch.float32)
        if self.aligned:
            return stride * index
        return stride * (index + 0.5) - 0.5

    def parameter_groups(self, rates: LayerRates) -> list[dict[str, Any]]:
        """Every trainable parameter once: {"params", "lr_mult", "weight_decay_mult"} per group."""
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for stage_name, stage in self.stages.items():
            new = stage_name in self.head_stages
            stage_mult = rates.head_lr_mult if new else rates.backbone_lr_mult
            for name, parameter in stage.named_parameters():
                if not parameter.requires_grad:
                    continue
                is_bias = name.rpartition(".")[2] == "bias"
                lr_mult = stage_mult * (rates.bias_lr_mult if is_bias else 1.0)
                decay_mult = 0.0 if is_bias and not rates.bias_decay else 1.0
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
    """A teacher: images in, features out; eval mode, no gradient, whatever mode its parent is in.

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
