"""Mixed precision, the same for every trainer: the node SOLVER.AMP."""

from contextlib import AbstractContextManager

import torch
from fvcore.common.config import CfgNode
from torch.optim import Optimizer

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16}


class MixedPrecision:
    """Autocast for the forward passes; for fp16, losses are scaled up so that small gradients do
    not vanish, and a step whose gradients overflow is left out (Micikevicius et al., ICLR 2018).

    Args:
        amp: ENABLED, and PRECISION, one of `PRECISIONS`.
        device: of the model; GPUs and CPUs have both.

    Attributes:
        scaler: its state belongs into a checkpoint; empty but for fp16.
    """

    def __init__(self, amp: CfgNode, device: torch.device) -> None:
        self.device = device
        self.enabled = amp.ENABLED
        self.dtype = PRECISIONS[amp.PRECISION]
        scales = amp.ENABLED and amp.PRECISION == "fp16"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scales)
        self._stepped = False

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype, enabled=self.enabled)

    def backward(self, loss: torch.Tensor, **arguments: object) -> None:
        """`loss.backward(**arguments)`, of the scaled loss."""
        self.scaler.scale(loss).backward(**arguments)

    def step(self, optimizer: Optimizer) -> None:
        """By the unscaled gradients; without any, nothing happens."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if any(parameter.grad is not None for parameter in parameters):
            self.scaler.step(optimizer)
            self._stepped = True

    def update(self) -> None:
        """Adapts the scale, once the iteration's optimizers have stepped."""
        if self._stepped:
            self.scaler.update()
        self._stepped = False
