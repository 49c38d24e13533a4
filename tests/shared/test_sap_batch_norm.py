"""BatchNorm over maps of several sizes and over processes, by hand."""

import pytest
import torch
from processes import run_in_two
from pyramids import maps, pyramid
from torch import nn

from shared import distributed
from shared.errors import UserError
from shared.sap import sap_losses
from shared.sap.batch_norm import JointBatchNorm
from shared.sap.pooling import average_vectors

SIZES = [(2, 3, 4, 5), (1, 3, 2, 7), (1, 3, 1, 1)]


def norm_of(channels, synchronized=False):
    torch.manual_seed(0)
    norm = JointBatchNorm(channels, synchronized=synchronized).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def drawn(sizes=SIZES):
    generator = torch.Generator().manual_seed(3)
    return [
        (5 + torch.randn(size, generator=generator, dtype=torch.float64)).requires_grad_()
        for size in sizes
    ]


def by_hand(norm, batch):
    """Every channel less its mean over all cells of all maps, over the deviation."""
    cells = torch.cat([each.permute(1, 0, 2, 3).reshape(3, -1) for each in batch], dim=1)
    mean, variance = cells.mean(dim=1), cells.var(dim=1, correction=0)
    scale = norm.weight / (variance + norm.eps).sqrt()
    shift = norm.bias - mean * scale
    return [each * scale.view(3, 1, 1) + shift.view(3, 1, 1) for each in batch], cells


def test_maps_of_several_sizes_are_one_batch():
    norm, batch = norm_of(3), drawn()
    expected, cells = by_hand(norm, batch)
    found = norm.joint(batch)
    weights = [torch.randn_like(each) for each in batch]
    for own, true in zip(found, expected, strict=True):
        torch.testing.assert_close(own, true)
    ours, theirs = (
        torch.autograd.grad(
            sum((o * w).sum() for o, w in zip(outputs, weights, strict=True)),
            [*batch, norm.weight, norm.bias],
        )
        for outputs in (found, expected)
    )
    for own, true in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, true)
    torch.testing.assert_close(norm.running_mean, 0.1 * cells.mean(dim=1).detach())
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * cells.var(dim=1).detach())


@pytest.mark.parametrize(
    ("plain", "size"), [(nn.BatchNorm2d, (2, 3, 4, 5)), (nn.BatchNorm1d, (4, 3))]
)
def test_one_map_is_torchs_own_batch_norm(plain, size):
    norm, theirs = norm_of(3), plain(3).double()
    theirs.load_state_dict(norm.state_dict())
    [map_] = drawn([size])
    assert torch.equal(norm(map_), theirs(map_))
    assert all(torch.equal(theirs.state_dict()[n], t) for n, t in norm.state_dict().items())
    assert torch.equal(norm.eval()(map_), theirs.eval()(map_))


def test_prediction_uses_the_running_statistics_map_by_map():
    norm, batch = norm_of(3).eval(), drawn()
    for each, found in zip(batch, norm.joint(batch), strict=True):
        assert torch.equal(found, norm(each))


def pyramids_of(processes):
    """Loss, gradients and statistics of a pyramid with BatchNorm, of this process's images."""
    images = [maps(1, size, seed=i) for i, size in enumerate([(9, 12), (6, 15), (9, 12), (4, 4)])]
    chosen = images[distributed.rank() :: processes]
    torch.manual_seed(1)
    module = pyramid(z_norm="bn", embed_norm="bn", synchronized=True).double().train()
    features = [f.double().requires_grad_() for f, _ in chosen]
    source = (features, [g.double() for _, g in chosen])
    losses, _ = sap_losses(module, source, source, weight=0.3)
    (losses["sap"] / processes).backward()
    gradients = [p.grad for p in module.parameters()]
    for gradient in gradients if processes > 1 else ():
        distributed.sum_tensor(gradient)
    buffers = {name: buffer for name, buffer in module.named_buffers() if "running" in name}
    return losses["sap"].detach(), gradients, [f.grad for f in features], buffers


def save_pyramids(folder):
    torch.save(pyramids_of(2), folder / f"{distributed.rank()}.pt")


def test_two_processes_have_the_statistics_of_one(tmp_path):
    loss, gradients, inputs, buffers = pyramids_of(1)
    run_in_two(save_pyramids, tmp_path)
    two = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close((two[0][0] + two[1][0]) / 2, loss)
    for rank, (_, found, own, statistics) in enumerate(two):
        for ours, theirs in zip(found, gradients, strict=True):
            torch.testing.assert_close(ours, theirs)
        for ours, theirs in zip(own, inputs[rank::2], strict=True):
            torch.testing.assert_close(ours, theirs)
        for name, buffer in statistics.items():
            torch.testing.assert_close(buffer, buffers[name])


def test_images_of_several_sizes_share_the_statistics_of_z():
    """z of each image, by hand, less the mean of z over the images."""
    module = pyramid(z_norm="bn").double().train()
    images = [maps(1, size, seed=i) for i, size in enumerate([(9, 12), (6, 15), (9, 12)])]
    features, guides = ([each.double() for each in own] for own in zip(*images, strict=True))
    vectors = []
    with torch.no_grad():
        found = module.joint_logits(features, guides)
        for map_, guide in zip(features, guides, strict=True):
            masks = module.eval()(map_, guide).masks
            vectors.append(average_vectors(module.embedding(map_), masks, module.options.levels))
        vectors = torch.cat(vectors)
        z = vectors.sum(dim=1) @ module.compact[0].weight.T
        z = (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + module.compact[1].eps).sqrt()
        scores = z.clamp(min=0) @ module.level_scores.weight.T
        weights = scores.view_as(vectors).softmax(dim=1)
        expected = module.classifier((vectors * weights).sum(dim=1))
    torch.testing.assert_close(found, expected)
    assert (found[0] - found[2]).abs().max() > 1e-3  # each in its place


def test_images_of_one_size_are_the_batch_that_they_make():
    module = pyramid(z_norm="bn", embed_norm="bn").train()
    features, guide = maps(4)
    singly = ([f[None] for f in features], [g[None] for g in guide])
    losses = [
        sap_losses(module, domain, domain, weight=1.0)[0]["sap"]
        for domain in ((features, guide), singly)
    ]
    torch.testing.assert_close(losses[1], losses[0])
    without = pyramid(guide=False, z_norm="bn").train()
    assert without.joint_logits(singly[0], [None] * 4).shape == (4, 2)


def test_one_image_has_no_statistics():
    with pytest.raises(UserError, match=r"raise SOLVER.IMS_PER_BATCH, or use ln"):
        one = [[each] for each in maps(1)]
        sap_losses(pyramid(z_norm="bn").train(), one, one, weight=1.0)
