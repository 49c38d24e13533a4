"""The pyramid against plain loops, its keys and its ablations."""

import math

import pytest
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode
from pyramids import DETECTION_LEVELS, maps, pyramid, softmax_by_loops, vectors_by_loops

from shared.config import load_config
from shared.errors import UserError
from shared.sap import (
    SapOptions,
    SpatialAttentionPyramid,
    sap_losses,
)
from shared.sap.pooling import (
    average_vectors,
    pooled_size,
)


def resize_by_loops(values, size):
    """Bilinear, align_corners False, of (C, H, W)."""
    _, height, width = values.shape
    out = torch.zeros(values.shape[0], *size, dtype=values.dtype)
    for i in range(size[0]):
        for j in range(size[1]):
            y = max((i + 0.5) * height / size[0] - 0.5, 0)
            x = max((j + 0.5) * width / size[1] - 0.5, 0)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = (1 - x + x0) * values[:, y0, x0] + (x - x0) * values[:, y0, x1]
            bottom = (1 - x + x0) * values[:, y1, x0] + (x - x0) * values[:, y1, x1]
            out[:, i, j] = (1 - y + y0) * top + (y - y0) * bottom
    return out


def pyramid_by_loops(module, features, guide):
    """The paper's §3 for one image (Ĉ, H, W), (A, h, w) of float64; 𝒱 and the logits."""
    levels = module.options.levels
    f = features
    for convolution, norm in zip(module.embedding[0::3], module.embedding[1::3], strict=True):
        f = torch.einsum("oc,chw->ohw", convolution.weight[:, :, 0, 0], f)
        grouped = f.reshape(norm.num_groups, -1)
        mean, var = grouped.mean(1, keepdim=True), grouped.var(1, correction=0, keepdim=True)
        f = ((grouped - mean) / (var + norm.eps).sqrt()).view_as(f)
        f = (f * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    guided = torch.cat([features, resize_by_loops(guide, features.shape[-2:])])[None]
    for convolution in module.guide_net[::2]:
        guided = F.conv2d(guided, convolution.weight, convolution.bias, padding=1).clamp(min=0)
    vectors = []
    for kernel, net in zip(levels, module.mask_nets, strict=True):
        size = pooled_size(kernel, *features.shape[-2:])
        scores = resize_by_loops(guided[0], size).flatten(1)
        for layer in net[:-1:2]:
            scores = (layer.weight[:, :, 0, 0] @ scores + layer.bias[:, None]).clamp(min=0)
        scores = net[-1].weight[:, :, 0, 0] @ scores
        mask = torch.tensor(softmax_by_loops(scores[0].tolist())).double().view(1, 1, *size)
        vectors.append(
            vectors_by_loops(f[None], [mask], [kernel], lambda window: window.mean(dim=2))[0, 0]
        )
    z = module.compact[0].weight @ sum(vectors)
    z = (z - z.mean()) / (z.var(correction=0) + module.compact[1].eps).sqrt()
    z = (z * module.compact[1].weight + module.compact[1].bias).clamp(min=0)
    attention = module.level_scores.weight.view(len(levels), -1, z.numel())
    fused = torch.zeros_like(vectors[0])
    for channel in range(fused.numel()):
        weights = softmax_by_loops([(a[channel] @ z).item() for a in attention])
        fused[channel] = sum(w * v[channel] for w, v in zip(weights, vectors, strict=True))
    return fused, module.classifier.weight @ fused + module.classifier.bias


@pytest.mark.parametrize(("size", "guide_size"), [((9, 12), (9, 12)), ((2, 5), (4, 9))])
def test_module_against_plain_loops(size, guide_size):
    module = pyramid().double()
    with torch.no_grad():  # off their neutral initial values
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    features, guide = maps(2, size)[0].double(), maps(2, guide_size)[1].double()
    with torch.no_grad():
        outputs = module(features, guide)
        for index in range(2):
            vector, logits = pyramid_by_loops(module, features[index], guide[index])
            torch.testing.assert_close(outputs.vector[index], vector)
            torch.testing.assert_close(outputs.logits[index], logits)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 17), (20, 16)])
@pytest.mark.parametrize("count", [1, 3])
def test_masks_and_weights_sum_to_one_on_any_map(size, count):
    levels = (3, 9, 15, 51)
    module = pyramid(levels=levels)
    outputs = module(*maps(count, size))
    assert outputs.logits.shape == (count, 2)
    assert [tuple(m.shape[-2:]) for m in outputs.masks] == [pooled_size(k, *size) for k in levels]
    for mask in outputs.masks:
        torch.testing.assert_close(mask.sum(dim=(1, 2, 3)), torch.ones(count))
    torch.testing.assert_close(outputs.level_weights.sum(dim=1), torch.ones(count, 8))
    assert torch.isfinite(outputs.logits).all()


def test_sizes_of_the_released_configuration():
    """Ĉ 512, A 15: 5.76 M parameters, 9.43 M with a 3x3 embedding; 37x75 cells, k 3 and 37."""
    counts = [
        sum(p.numel() for p in SpatialAttentionPyramid(512, 15, options).parameters())
        for options in (
            SapOptions(levels=DETECTION_LEVELS, guide_channels=0, embed_kernel=kernel)
            for kernel in (1, 3)
        )
    ]
    assert [round(count / 1e6, 2) for count in counts] == [5.76, 9.43]
    assert pooled_size(3, 37, 75) == (18, 37)
    assert pooled_size(37, 37, 75) == (1, 20)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guide": False},
        {"channel_attention": False},
        {"pyramid": False},
        {"pooling": "max"},
        {"embed_kernel": 3, "embed_norm": "bn", "embed_dropout": 0.5, "z_norm": "bn"},
        {"guide_channels": 0, "guide_sigmoid": True, "guide_detach": True, "align_corners": True},
        {"levels": (3,)},
        {"guide_kernel": 1, "embed_kernel": 3},
    ],
)
def test_every_parameter_and_input_gets_gradient_where_levels_have_two_cells(options):
    module = pyramid(**{"embed_channels": 32, "guide_channels": 16} | options).train()
    batches = [maps(4, seed=seed) for seed in range(2)]
    inputs = [tensor.requires_grad_() for batch in batches for tensor in batch]
    loss, _ = sap_losses(module, *batches, weight=1.0)
    loss["sap"].backward()
    # One level's weight is 1 whatever its score.
    alone = {"compact.0.weight", "compact.1.weight", "compact.1.bias", "level_scores.weight"}
    silent = alone if len(module.options.levels) == 1 else set()
    assert {n for n, p in module.named_parameters() if not p.grad.any()} == silent
    uses_guide = module.options.guide and module.options.pyramid and not module.options.guide_detach
    for tensor, expected in zip(inputs, [True, uses_guide] * 2, strict=True):
        assert (tensor.grad is not None and bool(tensor.grad.any())) == expected


def test_segmentation_default_trains_every_level_on_a_map_that_has_room():
    torch.manual_seed(0)
    module = SpatialAttentionPyramid(6, 5, SapOptions(embed_channels=16, guide_channels=8))
    batches = [maps(1, (20, 54), 6, 5, seed=seed) for seed in range(2)]
    sap_losses(module, *batches, weight=1.0)[0]["sap"].backward()
    assert all(p.grad.any() for p in module.parameters())


def test_a_level_of_one_cell_has_nothing_to_attend_to():
    module = pyramid(levels=(1, 9))
    sap_losses(module, maps(2, (9, 9)), maps(2, (9, 9), seed=1), weight=1.0)[0]["sap"].backward()
    assert not any(p.grad.any() for p in module.mask_nets[1].parameters())
    assert all(p.grad.any() for p in module.mask_nets[0].parameters())


def test_ablations_are_what_the_paper_says():
    features, guide = maps()
    without_guide = pyramid(guide=False)
    assert without_guide.guide_net[0].in_channels == 10  # 14 with the guide
    without_guide(features)
    equal = pyramid(channel_attention=False)
    outputs = equal(features, guide)
    vectors = average_vectors(equal.embedding(features), outputs.masks, equal.options.levels)
    torch.testing.assert_close(outputs.vector, vectors.mean(dim=1))
    assert outputs.level_weights is None
    flat = pyramid(pyramid=False)
    outputs = flat(features)
    torch.testing.assert_close(outputs.vector, flat.embedding(features).mean(dim=(2, 3)))
    assert outputs.masks == [] and set(dict(flat.named_children())) == {"embedding", "classifier"}


def test_guide_changes_the_masks_and_its_switches_act_on_it():
    features, guide = maps()

    def first_mask(guide, **options):
        return pyramid(**options)(features, guide).masks[0]

    assert not torch.equal(first_mask(guide), first_mask(guide + 1))
    torch.testing.assert_close(
        first_mask(guide, guide_sigmoid=True), first_mask(guide.sigmoid()), rtol=0, atol=1e-7
    )
    half = F.avg_pool2d(guide, 2)
    for align_corners in (False, True):
        resized = F.interpolate(half, (9, 12), mode="bilinear", align_corners=align_corners)
        torch.testing.assert_close(
            first_mask(half, levels=(1, 2), align_corners=align_corners),
            first_mask(resized, levels=(1, 2), align_corners=align_corners),
        )


def test_images_of_a_batch_do_not_mix():
    module = pyramid().train()
    features, guide = maps(3)
    together = module(features, guide).logits
    alone = [module(features[i : i + 1], guide[i : i + 1]).logits for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_fp32_under_autocast():
    module = pyramid()
    expected = module(*maps()).logits
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(*maps()).logits, expected)
        features, guide = maps()
        assert module(features.bfloat16(), guide.bfloat16()).logits.dtype == torch.float32


def test_batch_norm_is_refused_where_it_has_no_statistics():
    one = maps(1)
    with pytest.raises(UserError, match=r"SAP.Z_NORM bn needs at least 2 images .* use ln"):
        pyramid(z_norm="bn").train()(*one)
    pyramid(z_norm="bn").eval()(*one)
    pyramid(z_norm="bn", channel_attention=False).train()(*one)
    with pytest.raises(UserError, match=r"SAP.EMBED_NORM bn .* use gn"):
        pyramid(embed_norm="bn").train()(*maps(1, (1, 1)))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"levels": ()}, "LEVELS"),
        ({"levels": (3, 0)}, "LEVELS"),
        ({"levels": (3, 2.5)}, "LEVELS"),
        ({"levels": (True,)}, "LEVELS"),
        ({"pooling": "sum"}, "POOLING"),
        ({"embed_norm": "in"}, "EMBED_NORM"),
        ({"z_norm": "gn"}, "Z_NORM"),
        ({"loss_reduction": ""}, "LOSS_REDUCTION"),
        ({"embed_channels": 7}, "EMBED_CHANNELS"),
        ({"embed_kernel": 2}, "EMBED_KERNEL"),
        ({"guide_kernel": 4}, "GUIDE_KERNEL"),
        ({"embed_dropout": 1.0}, "EMBED_DROPOUT"),
        ({"guide_channels": -1}, "GUIDE_CHANNELS"),
        ({"loss_weight": -0.1}, "LOSS_WEIGHT"),
        ({"grl_scale": math.nan}, "GRL_SCALE"),
        ({"lr_mult": math.inf}, "LR_MULT"),
    ],
)
def test_wrong_options_name_the_key(options, key):
    with pytest.raises(UserError, match=rf"SAP.{key} is .*, expected ") as caught:
        SapOptions(**options)
    assert "\n" not in str(caught.value)


def test_keys_become_options():
    defaults = CfgNode()
    SapOptions(levels=DETECTION_LEVELS, guide_channels=0).add_keys(defaults)
    assert SapOptions.from_config(load_config(defaults)).levels == DETECTION_LEVELS
    pairs = ["SAP.LEVELS", "[3, 21, 37]", "SAP.PYRAMID", "False", "SAP.LOSS_WEIGHT", "1"]
    options = SapOptions.from_config(load_config(defaults, None, pairs))
    assert options == SapOptions(
        levels=(3, 21, 37), guide_channels=0, pyramid=False, loss_weight=1.0
    )
    with pytest.raises(UserError, match=r"SAP.LEVELS is \[3, 'x'\]"):
        SapOptions.from_config(load_config(defaults, None, ["SAP.LEVELS", "[3, x]"]))
