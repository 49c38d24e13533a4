"""BatchNorm whose batch are all maps of a call, whatever their sizes, and of all processes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared import distributed


class JointBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, of vectors (N, C) too; `joint` normalizes several maps as one batch.

    Args:
        synchronized: the batch is that of all processes, each of which must call it alike.
    """

    def __init__(self, channels: int, *, synchronized: bool = False) -> None:
        super().__init__(channels)
        self.synchronized = synchronized

    def forward(self, maps: Tensor) -> Tensor:
        return self.joint([maps])[0]

    def joint(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Each of `maps`, (N, C, …), by the mean and variance of all their cells together."""
        among = self.synchronized and distributed.world_size() > 1
        if not self.training or (len(maps) == 1 and not among):
            return [super(JointBatchNorm, self).forward(each) for each in maps]
        columns = [each.transpose(0, 1) for each in maps]  # (C, N, …)
        cells = torch.cat([each.flatten(1) for each in columns], dim=1)
        cells = self._among_processes(cells) if among else super().forward(cells[None])[0]
        parts = cells.split([each[0].numel() for each in columns], dim=1)
        # Copies: the parts of one tensor could not be changed in place by a ReLU.
        return [
            part.reshape(each.shape).transpose(0, 1).clone(memory_format=torch.contiguous_format)
            for part, each in zip(parts, columns, strict=True)
        ]

    def _among_processes(self, cells: Tensor) -> Tensor:
        """cells: (C, n), another n in every process."""
        sums = torch.cat([cells.sum(dim=1), cells.new_tensor([cells.shape[1]])])
        sums = distributed.sum_over_processes(sums)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centered = cells - mean[:, None]
        variance = distributed.sum_over_processes(centered.square().sum(dim=1)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centered * scale[:, None] + self.bias[:, None]

    def _check_input_dim(self, maps: Tensor) -> None:
        """Any number of dimensions."""
