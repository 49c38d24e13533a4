"""Gradient reversal: identity forward, −coefficient times the gradient backward.

Ganin & Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML 2015, Eqs. 9–10.
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function


class _GradientReversal(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, coefficient: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        # Saved, not stored: changing the coefficient in place between forward and backward raises
        # instead of silently scaling the gradient by the new value.
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        (coefficient,) = ctx.saved_tensors
        return -coefficient * gradient, None


def grad_reverse(x: Tensor, coefficient: Tensor | float = 1.0) -> Tensor:
    """Returns `x`; its gradient is multiplied by −`coefficient`.

    A 0-dim tensor coefficient keeps bf16 gradients bf16 and does not recompile under
    `torch.compile` when it changes; a float is turned into one. Take gradient penalties on the
    tensor returned, not on `x`: the second derivative through the reversal is c² f″, not −c f″.

    Args:
        x: any shape, floating point.
        coefficient: λ ≥ 0; 0-dim.
    """
    if not isinstance(coefficient, Tensor):
        coefficient = torch.tensor(float(coefficient))  # 0-dim on the CPU works with any device
    return _GradientReversal.apply(x, coefficient)


class GradientReversal(nn.Module):
    """`grad_reverse` with its coefficient in a buffer, saved and moved with the model."""

    def __init__(self, coefficient: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("coefficient", torch.tensor(float(coefficient)))

    def set_coefficient(self, coefficient: float) -> None:
        # A new tensor: a graph that was recorded before keeps the value it was recorded with.
        self.coefficient = torch.full_like(self.coefficient, float(coefficient))

    def forward(self, x: Tensor) -> Tensor:
        return grad_reverse(x, self.coefficient)
