import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fvcore.common.config import CfgNode

from shared.attention import level_attention, spatial_mask
from shared.config import load_config
from shared.errors import UserError
from shared.sap import (
    SapOptions,
    SapOutputs,
    SpatialAttentionPyramid,
    draw_pyramid,
    sap_losses,
)
from shared.sap.pooling import (
    average_vectors,
    maximum_vectors,
    pooled_size,
    window_means,
    window_size,
)

DETECTION_LEVELS = (3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 35, 37)
SMALL = {"levels": (1, 3, 4), "embed_channels": 8, "guide_channels": 6}


def pyramid(**options):
    torch.manual_seed(1)
    return SpatialAttentionPyramid(10, 4, SapOptions(**SMALL | options))


def maps(count=2, size=(9, 12), in_channels=10, guide_channels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(count, channels, *size, generator=generator)
        for channels in (in_channels, guide_channels)
    )


# --- pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(38, 75), (37, 124), (5, 2), (1, 1), (1, 40)])
def test_bands_are_average_pooling_with_windows_clamped_to_the_map(size):
    torch.manual_seed(0)
    features = torch.randn(1, 4, *size)
    for kernel in (1, 2, 3, 24, 37, 51):
        rows, columns = window_size(kernel, *size)
        pooled = (
            window_means(size[0], rows, features)
            @ features
            @ window_means(size[1], columns, features).T
        )
        expected = F.avg_pool2d(features, (min(kernel, size[0]), min(kernel, size[1])), 2)
        assert pooled.shape[-2:] == expected.shape[-2:] == pooled_size(kernel, *size)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


def vectors_by_loops(features, masks, levels, reduce):
    """Eq. 2, window by window."""
    count, channels, height, width = features.shape
    vectors = torch.zeros(count, len(levels), channels, dtype=features.dtype)
    for level, (kernel, mask) in enumerate(zip(levels, masks, strict=True)):
        rows, columns = min(kernel, height), min(kernel, width)
        for i, top in enumerate(range(0, height - rows + 1, 2)):
            for j, left in enumerate(range(0, width - columns + 1, 2)):
                window = features[:, :, top : top + rows, left : left + columns].flatten(2)
                vectors[:, level] += reduce(window) * mask[:, :, i, j]
    return vectors


@pytest.mark.parametrize("size", [(7, 10), (2, 5), (1, 1)])
def test_vectors_against_loops_over_windows(size):
    torch.manual_seed(0)
    levels = (1, 3, 4, 6, 9)
    features = torch.randn(2, 3, *size).double()
    masks = [torch.randn(2, 1, *pooled_size(k, *size)).double() for k in levels]
    mean = vectors_by_loops(features, masks, levels, lambda window: window.mean(dim=2))
    torch.testing.assert_close(average_vectors(features, masks, levels), mean)
    maximum = vectors_by_loops(features, masks, levels, lambda window: window.amax(dim=2))
    torch.testing.assert_close(maximum_vectors(features, masks, levels), maximum)


def test_average_vectors_and_gradients_equal_avg_pool2d_in_fp32():
    torch.manual_seed(0)
    features = torch.randn(1, 16, 38, 75, requires_grad=True)
    scores = [
        torch.randn(1, 1, *pooled_size(k, 38, 75), requires_grad=True) for k in DETECTION_LEVELS
    ]
    upstream = torch.randn(1, len(scores), 16)
    masks = [spatial_mask(score) for score in scores]
    literal = torch.stack(
        [
            (F.avg_pool2d(features, kernel, 2) * mask).sum(dim=(2, 3))
            for kernel, mask in zip(DETECTION_LEVELS, masks, strict=True)
        ],
        dim=1,
    )
    ours = average_vectors(features, masks, DETECTION_LEVELS)
    torch.testing.assert_close(ours, literal, rtol=0, atol=1e-5)
    expected = torch.autograd.grad(literal, [features, *scores], upstream, retain_graph=True)
    gradients = torch.autograd.grad(ours, [features, *scores], upstream)
    for gradient, reference in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-5)


def test_two_windows_by_hand():
    """Window 3 on one row of five cells: means of cells 0-2 and 2-4; window 9 is the whole map."""
    features = torch.tensor([[[[1.0, 2.0, 6.0, 8.0, 10.0]]]])
    scores = torch.tensor([[[[0.0, math.log(3.0)]]]])
    masks = [spatial_mask(scores), spatial_mask(torch.tensor([[[[7.0]]]]))]
    torch.testing.assert_close(masks[0], torch.tensor([[[[0.25, 0.75]]]]))
    vectors = average_vectors(features, masks, (3, 9))
    torch.testing.assert_close(vectors, torch.tensor([[[0.25 * 3 + 0.75 * 8], [27 / 5]]]))
    fused, weights = level_attention(vectors, torch.tensor([[[0.0], [math.log(4.0)]]]))
    torch.testing.assert_close(weights, torch.tensor([[[0.2], [0.8]]]))
    torch.testing.assert_close(fused, torch.tensor([[0.2 * 6.75 + 0.8 * 5.4]]))


# --- the module ----------------------------------------------------------------------------------


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


def softmax_by_loops(values):
    exponentials = [math.exp(v) for v in values]
    return [e / sum(exponentials) for e in exponentials]


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


# --- the loss ------------------------------------------------------------------------------------


def cross_entropy_by_hand(logits, label):
    rows = [softmax_by_loops(row) for row in logits.tolist()]
    return sum(-math.log(row[label]) for row in rows) / len(rows)


def test_loss_and_accuracy_of_both_domains():
    module = pyramid().double()
    source = [tensor.double() for tensor in maps(3)]
    target = [tensor.double() for tensor in maps(2, seed=1)]
    logits = [module(*batch).logits.detach() for batch in (source, target)]
    entropies = sum(cross_entropy_by_hand(logits[label], label) for label in (0, 1))
    losses, accuracy = sap_losses(module, source, target, weight=0.2)
    assert losses["sap"].item() == pytest.approx(0.2 * entropies)
    hits = [(domain.argmax(dim=1) == label).tolist() for label, domain in enumerate(logits)]
    assert accuracy.item() == pytest.approx((sum(hits[0]) / 3 + sum(hits[1]) / 2) / 2)
    mean, _ = sap_losses(module, source, target, weight=0.2, reduction="mean")
    assert mean["sap"].item() == pytest.approx(0.1 * entropies)
    with pytest.raises(UserError, match=r"SAP.LOSS_REDUCTION is 'max'"):
        sap_losses(module, source, target, weight=0.2, reduction="max")


def gradients(weight, grl_scale, reverse=True):
    module = pyramid().double()
    batches = [[t.double().requires_grad_() for t in maps(seed=seed)] for seed in range(2)]
    if reverse:
        loss = sap_losses(module, *batches, weight=weight, grl_scale=grl_scale)[0]["sap"]
    else:
        loss = sum(
            F.cross_entropy(module(*batch).logits, torch.full((2,), label))
            for label, batch in enumerate(batches)
        )
    inputs = [tensor for batch in batches for tensor in batch]
    parameters = list(module.parameters())
    found = torch.autograd.grad(loss, inputs + parameters)
    return found[: len(inputs)], found[len(inputs) :]


def test_features_and_guide_get_the_reversed_gradient_and_the_module_the_plain_one():
    inputs, parameters = gradients(1.0, 1.0, reverse=False)
    reversed_inputs, learned = gradients(0.5, 0.1)
    assert len(inputs) == 4  # features and guide of both domains
    for gradient, plain in zip(reversed_inputs, inputs, strict=True):
        assert plain.any()
        torch.testing.assert_close(gradient, -0.05 * plain)
    for gradient, plain in zip(learned, parameters, strict=True):
        torch.testing.assert_close(gradient, 0.5 * plain)


@pytest.mark.parametrize("with_guide", [True, False])
def test_images_of_different_size_are_the_mean_over_images(with_guide):
    module = pyramid(guide=with_guide)
    images = [maps(1, size, seed=i) for i, size in enumerate([(9, 12), (6, 15), (2, 2)])]
    features, guides = zip(*images, strict=True)
    domain = (features, guides if with_guide else None)
    entropies = [cross_entropy_by_hand(module(*image).logits, label=1) for image in images]
    source = maps(2, seed=9) if with_guide else (maps(2, seed=9)[0], None)
    expected = cross_entropy_by_hand(module(*source).logits, label=0) + sum(entropies) / 3
    losses, _ = sap_losses(module, source, domain, weight=1.0)
    assert losses["sap"].item() == pytest.approx(expected, rel=1e-5)
    batch = maps(2)
    one_by_one = tuple([t[i : i + 1] for i in range(2)] for t in batch)
    together = sap_losses(module, batch, batch, weight=1.0)[0]["sap"]
    torch.testing.assert_close(
        sap_losses(module, one_by_one, one_by_one, weight=1.0)[0]["sap"], together
    )


def test_pyramid_learns_to_tell_domains_apart():
    torch.manual_seed(0)
    module = pyramid(levels=(1, 3, 5), embed_channels=32, guide_channels=16)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    shift = torch.arange(10).remainder(2)[:, None, None]  # of every other channel of the target

    def batch():
        source, target = torch.randn(2, 8, 10, 8, 12)
        target = target + shift
        return (source, source[:, :4]), (target, target[:, :4])

    for _ in range(30):
        losses, _ = sap_losses(module, *batch(), weight=1.0)
        optimizer.zero_grad()
        losses["sap"].backward()
        optimizer.step()
    losses, accuracy = sap_losses(module, *batch(), weight=1.0)
    assert accuracy == 1.0 and losses["sap"] < 0.5


# --- keys and pictures ---------------------------------------------------------------------------


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


def test_picture_has_a_row_per_image_and_a_column_per_level():
    module = pyramid(levels=(3, 9, 40)).eval()
    with torch.no_grad():
        outputs = module(*maps(2, (9, 18)))
    images = [np.zeros((36, 72, 3), np.uint8)] * 2
    picture = draw_pyramid(images, outputs, (3, 9, 40), height=36)
    single = draw_pyramid(images[:1], outputs, (3, 9, 40), height=36)
    assert picture.dtype == np.uint8
    scale, curve = 18, 54
    assert picture.shape == (2 * single.shape[0], 4 * 72 + scale + curve + 5 * 6, 3)
    tiles = [single[-36:, left : left + 72] for left in range(0, 4 * 78, 78)]
    assert not tiles[0].any()
    # Where the mask is largest the overlay is redder than where it is smallest.
    mask = outputs.masks[0][0, 0]

    def red(cell):
        row, column = divmod(int(cell), mask.shape[1])
        return tiles[1][36 * row // mask.shape[0] + 4, 72 * column // mask.shape[1] + 4, 0]

    assert red(mask.argmax()) > red(mask.argmin())
    assert (tiles[3] == 128).all()


def flat_outputs(weights, sharpness=0.0):
    """Masks of 4x6 cells that prefer their first row by so much, and a level of each weight."""
    scores = torch.zeros(4, 6)
    scores[0] = sharpness
    mask = scores.flatten().softmax(0).reshape(1, 1, 4, 6)
    levels = torch.tensor(weights)[None, :, None].expand(1, -1, 8)
    return SapOutputs(torch.zeros(1, 2), torch.zeros(1, 8), [mask] * len(weights), levels)


def test_masks_are_drawn_on_one_scale():
    def colors(sharpness):
        image = np.zeros((40, 60, 3), np.uint8)
        picture = draw_pyramid([image], flat_outputs([0.5, 0.5], sharpness), (3, 5), height=40)
        return picture[-40:, 66:126].astype(int)

    flat, faint, sharp = colors(0.0), colors(0.01), colors(3.0)
    assert (flat == flat[0, 0]).all()  # rather than stretched to its own range
    assert abs(faint - flat).max() < 12
    assert abs(sharp - flat).max() > 100


def test_the_curve_rises_with_a_levels_weight():
    image = np.zeros((80, 60, 3), np.uint8)

    def heights(weights):
        curve = draw_pyramid([image], flat_outputs(weights), (3, 5), height=80)[-80:, -120:]
        blue = (curve[..., 2].astype(int) - curve[..., 0]) > 100
        return blue[:, :20].argmax(axis=0).max(), blue[:, -20:].argmax(axis=0).max()

    left, right = heights([0.9, 0.1])
    assert 0 < left < right
    assert np.ptp(heights([0.5, 0.5])) == 0


def test_picture_without_channel_attention_shows_equal_weights():
    module = pyramid(channel_attention=False).eval()
    with torch.no_grad():
        outputs = module(*maps(1))
    picture = draw_pyramid([np.zeros((18, 24, 3), np.uint8)], outputs, (1, 3, 4))
    assert picture.shape[0] > 192
