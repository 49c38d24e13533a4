import torch

from seg_adapt.models.region_discriminators import RegionDiscriminators, region_index


def test_region_classifiers_equal_a_loop_over_positions():
    torch.manual_seed(0)
    heads = RegionDiscriminators(4, 3, hidden=5)
    features, regions = torch.randn(2, 4, 3, 5), torch.randint(-1, 3, (2, 3, 5))
    outputs = heads(features, regions)
    for region, output in enumerate(outputs):
        expected = [
            heads.heads[region](features[n, :, y, x])
            for n in range(2)
            for y in range(3)
            for x in range(5)
            if regions[n, y, x] == region
        ]
        torch.testing.assert_close(output, torch.cat(expected))
    assert sum(len(o) for o in outputs) == (regions >= 0).sum()


def test_region_without_positions_is_empty():
    outputs = RegionDiscriminators(4, 2)(torch.randn(1, 4, 2, 2), torch.zeros(1, 2, 2).long())
    assert [len(o) for o in outputs] == [4, 0]


def test_region_index_borders_and_padding():
    rows = torch.tensor([[-0.1, 0.0, 0.99, 1.0, 2.0, 2.99, 3.0]])
    columns = torch.tensor([[0.5]])
    regions = region_index(rows, columns, torch.tensor([3.0]), torch.tensor([1.0]), (3, 1))
    assert regions[0, :, 0].tolist() == [-1, 0, 0, 1, 2, 2, -1]


def test_region_index_uses_each_images_own_size_and_counts_row_by_row():
    rows = torch.tensor([[50.0], [50.0]])
    columns = torch.tensor([[50.0], [50.0]])
    regions = region_index(
        rows, columns, torch.tensor([60.0, 200.0]), torch.tensor([200.0, 60.0]), (3, 3)
    )
    assert regions.flatten().tolist() == [2 * 3 + 0, 0 * 3 + 2]
