"""ROAD's domain classifiers, one for each region of the image."""

import torch
from torch import Tensor, nn


class RegionDiscriminators(nn.Module):
    """One domain classifier per image region: 1×1 convolution, ReLU, 1×1 convolution, per position.

    ROAD §3.2: position x of region m is classified by h_m. The positions of a region are gathered
    first, so the cost is that of one classifier whatever the number of regions.

    Args:
        in_channels: C of the features.
        regions: number of regions M.
        hidden: channels of the hidden layer.
    """

    def __init__(self, in_channels: int, regions: int, hidden: int = 512) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 1)
            )
            for _ in range(regions)
        )
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.001)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, regions: Tensor) -> list[Tensor]:
        """Domain logits of every region.

        Args:
            features: (N, C, h, w).
            regions: (N, h, w) int64 in [−1, M); −1 is in no region.

        Returns:
            M tensors (positions of the region,), empty where a region has none.
        """
        positions = features.permute(0, 2, 3, 1)
        return [
            head(positions[regions == index]).squeeze(1) for index, head in enumerate(self.heads)
        ]


def region_index(
    rows: Tensor, columns: Tensor, height: Tensor, width: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Which cell of a grid over the whole image every position lies in (ROAD §3.3).

    Args:
        rows: (N, h) vertical coordinate of each feature row in the original image; continuous, in
            pixels: pixel p covers [p, p + 1).
        columns: (N, w) horizontal coordinate of each feature column.
        height, width: (N,) size of each original image, in pixels.
        grid: (rows, columns) of the partition.

    Returns:
        (N, h, w) int64: row · grid columns + column; −1 outside the image (padding).
    """

    def cells(positions: Tensor, size: Tensor, count: int) -> Tensor:
        share = positions / size[:, None]
        return torch.where((share >= 0) & (share < 1), (share * count).floor().long(), -1)

    row = cells(rows, height, grid[0])[:, :, None]
    column = cells(columns, width, grid[1])[:, None, :]
    return torch.where((row < 0) | (column < 0), -1, row * grid[1] + column)
