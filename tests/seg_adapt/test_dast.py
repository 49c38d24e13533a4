import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import backward, network, random_batches, tiny_segmentor

from seg_adapt.config import defaults
from seg_adapt.engine.stages import Kind
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods.dast import Dast, DastOptions, attention_cut, corrector_loss
from shared.config import load_config
from shared.errors import UserError


def dast(segmentor=None, **options):
    segmentor = segmentor or tiny_segmentor()
    torch.manual_seed(1)
    return Dast(segmentor, DastOptions(**options))


def vgg(**arguments):
    return tiny_segmentor(architecture="vgg16_fc7_d4", width=0.0625, **arguments)


def telling_discoverer(method):
    """Larger than the default initialization, so that the attention has something to say."""
    with torch.no_grad():
        for p in method.discoverer.parameters():
            p.mul_(3)
    return method


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet18", "layer4.0"),
        ("resnet50", "layer4.1"),
        ("resnet101", "layer4.1"),
        ("vgg16_fc7_d4", "conv5"),
        ("vgg16", "conv5"),
    ],
)
def test_features_are_those_before_the_last_residual_block_or_after_conv5_3(architecture, expected):
    segmentor = network(architecture, 3, width=0.03125)
    cut = attention_cut(segmentor)
    assert cut == expected
    if architecture.startswith("resnet"):
        images = torch.zeros(1, 3, 33, 33)
        features = segmentor.eval().run(images, until=cut)
        last_block = segmentor.stages["layer4"][-1]
        assert torch.equal(last_block(features), segmentor.run(images, until="layer4"))


def test_the_papers_discriminators_on_a_map_of_the_papers_size():
    method = Dast(network("vgg16_fc7_d4", 19))
    shapes = [tuple(p.shape) for p in method.discoverer.parameters() if p.dim() == 4]
    assert shapes == [(256, 512, 3, 3), (128, 256, 3, 3), (64, 128, 3, 3), (1, 64, 3, 3)]
    shapes = [tuple(p.shape) for p in method.corrector.parameters() if p.dim() == 4]
    assert [shape[0] for shape in shapes] == [64, 128, 256, 512, 1]
    with torch.no_grad():
        assert method.discoverer(torch.zeros(1, 512, 64, 128)).shape == (1, 1, 64, 128)


@pytest.mark.parametrize("build", [tiny_segmentor, vgg], ids=["resnet", "vgg"])
@pytest.mark.parametrize("attention", [True, False])
def test_iteration_equals_the_hand_toggled_loop(build, attention):
    """The released order: D and C frozen, source, target, then D and C on detached maps."""
    # λ_c so large that what reaches the features through the attention counts.
    weights = {"discoverer_weight": 0.5, "corrector_weight": 1000.0}
    method = telling_discoverer(dast(build(), attention=attention, **weights)).double()
    source, target = random_batches()
    gradients = []
    for phase in method.steps(source, target):
        backward(method, phase)
    for p in method.parameters():
        gradients.append(p.grad)
        p.grad = None

    network, discoverer, corrector = method.segmentor, method.discoverer, method.corrector
    stages = list(network.stages.values())
    e_stages, p_stages = stages[:-2], stages[-2:]
    if network.architecture == "resnet18":
        e_stages, p_stages = [*stages[:-2], stages[-2][0]], [stages[-2][1], stages[-1]]

    def extract(images):
        x = network.preprocessing(images)
        for stage in e_stages:
            x = stage(x)
        return x

    def predict(x):
        for stage in p_stages:
            x = stage(x)
        return F.interpolate(x, (33, 49), mode="bilinear", align_corners=False)

    method.discoverer.requires_grad_(False)
    method.corrector.requires_grad_(False)
    features_s = extract(source.images)
    prediction_s = predict(features_s)
    F.cross_entropy(prediction_s, source.labels, ignore_index=255).backward()
    features_t = extract(target.images)
    found = discoverer(features_t)
    prediction_t = predict(features_t * (1 + found.tanh().abs()) if attention else features_t)
    corrected = corrector(prediction_t.softmax(1))
    (0.5 * F.mse_loss(found, torch.zeros_like(found))).backward(retain_graph=True)
    (1000 * F.mse_loss(corrected, torch.zeros_like(corrected))).backward()
    for discriminator, maps_s, maps_t in (
        (discoverer, features_s, features_t),
        (corrector, prediction_s.softmax(1), prediction_t.softmax(1)),
    ):
        discriminator.requires_grad_(True)
        on_source, on_target = discriminator(maps_s.detach()), discriminator(maps_t.detach())
        F.mse_loss(on_source, torch.zeros_like(on_source)).backward()
        F.mse_loss(on_target, torch.ones_like(on_target)).backward()

    for (name, p), ours in zip(method.named_parameters(), gradients, strict=True):
        assert (ours is None) == (p.grad is None), name
        if ours is not None:
            # The least squares are taken in fp32.
            assert (ours - p.grad).norm() <= 1e-6 * p.grad.norm(), name


def test_weights_scale_the_segmentors_side_alone():
    batches = random_batches()
    one, two = (
        [phase.losses for phase in dast(**weights).steps(*batches)]
        for weights in ({}, {"discoverer_weight": 0.02, "corrector_weight": 0.05})
    )
    torch.testing.assert_close(two[1]["fool_discoverer"], 2 * one[1]["fool_discoverer"])
    torch.testing.assert_close(two[1]["fool_corrector"], 5 * one[1]["fool_corrector"])
    assert torch.equal(two[2]["discoverer"], one[2]["discoverer"])
    assert torch.equal(two[2]["corrector"], one[2]["corrector"])


def test_attention_is_kept_at_inference_and_absent_from_the_source_flow():
    method = telling_discoverer(dast()).eval()
    source, target = random_batches()
    with torch.no_grad():
        plain, attended = method.segmentor(source.images), method.predict(source.images)
        expected = F.interpolate(plain, (33, 49), mode="bilinear", align_corners=False)
        expected = F.cross_entropy(expected, source.labels, ignore_index=255)
    assert (plain - attended).abs().max() > 1e-3
    steps = method.steps(source, target)
    torch.testing.assert_close(next(steps).losses["seg"], expected)
    # Self-training continues from the logits that inference gives.
    torch.testing.assert_close(next(steps).target_logits, method.predict(target.images))


def test_without_attention_inference_is_the_segmentors():
    method = telling_discoverer(dast(attention=False)).eval()
    images = random_batches()[0].images
    assert torch.equal(method.predict(images), method.segmentor(images))


def test_reweighted_corrector_loss_against_its_sum():
    torch.manual_seed(0)
    logits, attention = torch.randn(2, 1, 2, 3).double(), torch.rand(2, 1, 4, 6).double()
    total = 0.0
    for n in range(2):
        for i in range(2):
            for j in range(3):
                cells = attention[n, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                total += cells.sum() / 4 * logits[n, 0, i, j] ** 2
    assert corrector_loss(logits, attention).item() == pytest.approx(total.item() / 12)
    assert corrector_loss(logits).item() == pytest.approx((logits**2).mean().item())


def corrector_phase(method, batches):
    _, fooling, _ = method.steps(*batches)
    return fooling.losses["fool_corrector"]


def test_reweighting_is_a_weight_and_no_way_to_lower_the_loss():
    batches = random_batches()
    method = telling_discoverer(dast(reweight_corrector=True, discoverer_weight=0.0))
    plain = telling_discoverer(dast(discoverer_weight=0.0))
    assert 0 < corrector_phase(method, batches) < corrector_phase(plain, batches)
    # Attention off: features reach the corrector through the segmentor only. A weight that was
    # not detached would give the discoverer's parameters a gradient.
    method = telling_discoverer(dast(reweight_corrector=True, attention=False))
    loss = corrector_phase(method, batches)
    weights = list(method.discoverer.parameters())
    assert all(g is None for g in torch.autograd.grad(loss, weights, allow_unused=True))


def test_vgg_trains_and_self_trains():
    cfg = load_config(
        defaults(),
        None,
        ["SOLVER.MAX_ITER", "2", "SELF_TRAINING.ROUNDS", "1", "SELF_TRAINING.ITERATIONS", "1"],
    )
    run = Trainer(dast(vgg()), cfg, device=torch.device("cpu"))
    before = [p.clone() for p in run.method.parameters()]
    logs = run.step([(0, *random_batches())])
    after = list(run.method.parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert {"accuracy/discoverer", "accuracy/corrector", "attention/mean"} <= set(logs)
    assert [stage.kind for stage in run.stages] == [Kind.METHOD, Kind.SELF_TRAINING]


def test_column_shows_the_attention():
    method = telling_discoverer(dast()).eval()
    images = random_batches(2, (64, 64))[1].images
    with torch.no_grad():
        heats = method.columns(images)["attention"]
        features = method.segmentor.run(images, until="layer4.0")
        attention = method.discoverer(features).tanh().abs()
        attention = F.interpolate(attention, (64, 64), mode="bilinear", align_corners=False)
    colors = cv2.applyColorMap(np.array([[0, 255]], np.uint8), cv2.COLORMAP_TURBO)[0, :, ::-1]
    for heat, alpha in zip(heats, attention[:, 0], strict=True):
        assert heat.dtype == np.uint8 and heat.shape == (64, 64, 3)
        assert np.array_equal(heat.reshape(-1, 3)[alpha.argmin()], colors[0])
        assert np.array_equal(heat.reshape(-1, 3)[alpha.argmax()], colors[1])


def test_flat_attention_is_a_picture_too():
    method = dast().eval()
    with torch.no_grad():
        for p in method.discoverer.parameters():
            p.zero_()
        heat = method.columns(random_batches(1, (8, 8))[1].images)["attention"][0]
    assert len(np.unique(heat.reshape(-1, 3), axis=0)) == 1


def test_wrong_options_name_the_key():
    with pytest.raises(UserError, match=r"DAST.CORRECTOR_WEIGHT is -1, expected at least 0"):
        DastOptions(corrector_weight=-1)
    with pytest.raises(UserError, match=r"DAST.D_CHANNELS is \[0\], expected whole numbers >= 1"):
        dast(d_channels=(0,))
