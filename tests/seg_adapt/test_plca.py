from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import random_batches, tiny_segmentor

from seg_adapt.losses.pairwise_softmax import aggregate_features, aggregate_probabilities
from seg_adapt.methods.plca import (
    Plca,
    PlcaOptions,
    adaptive_label_smoothing,
    uniform_cross_entropy,
)
from seg_adapt.models.parts import Outputs
from seg_adapt.options import LossOptions
from seg_adapt.structures import TargetBatch
from shared.errors import UserError

REFERENCE = np.load(Path(__file__).parents[1] / "data" / "plca_reference.npz")
LEVELS = {"association_features", "association_predictions"}


def plca(bn="frozen", loss=None, **options):
    return Plca(tiny_segmentor(bn=bn), PlcaOptions(**options), loss)


def test_smoothing_has_the_released_loss_and_gradient():
    logits = torch.tensor(REFERENCE["logit_t"]).double().requires_grad_()
    distance = uniform_cross_entropy(logits)
    released = ((distance / 10 - 1) * distance).mean()
    assert released.item() == pytest.approx(float(REFERENCE["lsr_loss"]), abs=1e-12)
    loss = adaptive_label_smoothing(logits, 10.0)
    assert loss.item() == pytest.approx((distance - 10).square().mean().item() / 20)
    loss.backward()
    np.testing.assert_allclose(logits.grad, REFERENCE["lsr_grad_t"], rtol=0, atol=1e-13)


def test_smoothing_draws_predictions_to_gamma_from_both_sides():
    for scale, direction in ((1.0, 1), (100.0, -1)):
        logits = (scale * torch.randn(1, 5, 3, 3)).requires_grad_()
        adaptive_label_smoothing(logits, 10.0).backward()
        moved = uniform_cross_entropy(logits - logits.grad).mean()
        assert direction * (moved - uniform_cross_entropy(logits).mean()) > 0
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"seg", "smoothing", *LEVELS}),
        ({"association": "features"}, {"seg", "smoothing", "association_features"}),
        ({"association": "predictions"}, {"seg", "smoothing", "association_predictions"}),
        ({"smoothing_weight": 0.0}, {"seg", *LEVELS}),
        ({"association": "none"}, {"seg", "smoothing"}),
        ({"association": "none", "smoothing_weight": 0.0}, {"seg"}),
    ],
)
def test_ablations(options, names):
    phase = plca(**options).phase(*random_batches())
    assert set(phase.losses) == names
    assert {name.rpartition("_")[2] for name in phase.records} == {
        name.removeprefix("association_") for name in names & LEVELS
    }


def test_lovasz_is_the_common_keys():
    method = plca(loss=LossOptions(lovasz_weight=0.75))
    assert {"lovasz", "seg", "smoothing", *LEVELS} == set(method.phase(*random_batches()).losses)


def test_weights_scale_their_terms():
    batches = random_batches()
    one = plca(association_weight=1.0, smoothing_weight=1.0).eval().phase(*batches).losses
    losses = plca().eval().phase(*batches).losses
    for name in LEVELS:
        torch.testing.assert_close(losses[name], 0.1 * one[name])
    torch.testing.assert_close(losses["smoothing"], 0.01 * one["smoothing"])
    torch.testing.assert_close(losses["seg"], one["seg"])


def test_smoothing_counts_both_domains_at_the_output_resolution():
    method = plca(smoothing_weight=1.0, association="none").eval()
    source, target = random_batches()
    expected = sum(
        adaptive_label_smoothing(method.segmentor(batch.images), 10.0) for batch in (source, target)
    )
    torch.testing.assert_close(method.phase(source, target).losses["smoothing"], expected)


@pytest.mark.parametrize("case", ["cos_spagg", "cos_plain", "kl_spagg", "kl_plain"])
def test_association_of_maps_and_labels_of_the_images_size(case):
    """The reference numbers, from labels eight times as large as the maps."""
    cosine = case.startswith("cos")
    source, target = (
        torch.tensor(REFERENCE[f"{'feat' if cosine else 'logit'}_{domain}"]) for domain in "st"
    )
    method = plca(aggregation=case.endswith("spagg"))
    labels = torch.tensor(REFERENCE["labels"]).long()
    labels = labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    loss, cycles = method.associate(
        "features" if cosine else "predictions",
        Outputs(source, source),
        Outputs(target, target),
        labels,
    )
    assert loss.item() == pytest.approx(float(REFERENCE[f"{case}_loss"]), rel=1e-6)
    assert sum(c.closed.sum() for c in cycles) == REFERENCE[f"{case}_selected"].sum()


def test_options_reach_the_association():
    batches = random_batches(2, (65, 97))
    usual = plca().eval().phase(*batches).losses
    for options in ({"similarity": "direct"}, {"aggregation": False}, {"alpha": 0.9}):
        other = plca(**options).eval().phase(*batches).losses
        for name in LEVELS:
            assert other[name].item() != pytest.approx(usual[name].item(), rel=1e-5), options
    blocks = plca(block=5).eval().phase(*batches).losses
    for name in LEVELS:
        torch.testing.assert_close(blocks[name], usual[name])


def test_association_moves_both_domains():
    method = plca()
    source, target = random_batches(1)
    outputs = [method.segmentor.outputs(b.images) for b in (source, target)]
    for level in ("features", "predictions"):
        loss, (cycles,) = method.associate(level, *outputs, source.labels)
        assert cycles.closed.any()
        maps = [o.features if level == "features" else o.logits for o in outputs]
        for gradient in torch.autograd.grad(loss, maps, retain_graph=True):
            assert gradient.any() and torch.isfinite(gradient).all()


def test_inference_aggregates_features_then_predictions():
    method = plca().eval()
    images = random_batches()[1].images
    with torch.no_grad():
        features = method.segmentor.run(images, until="layer4")
        mixed = torch.stack([aggregate_features(f.flatten(1).t()).t() for f in features])
        logits = method.segmentor.run(mixed.view_as(features), after="layer4")
        p = logits.softmax(1)
        expected = torch.stack([aggregate_probabilities(i.flatten(1).t()).t() for i in p])
        predicted = method.predict(images)
        torch.testing.assert_close(predicted.exp(), expected.view_as(p))
        torch.testing.assert_close(predicted.exp().sum(1), torch.ones_like(p[:, 0]))
        assert not torch.allclose(predicted, F.log_softmax(method.segmentor(images), 1), atol=1e-3)
        one_by_one = torch.cat([method.predict(image[None]) for image in images])
        torch.testing.assert_close(one_by_one, predicted)
        off = plca(aggregation_at_test=False).eval()
        assert torch.equal(off.predict(images), off.segmentor(images))


def test_inference_is_finite_for_certain_predictions():
    method = plca().eval()
    with torch.no_grad():
        for parameter in method.segmentor.stages["head"].parameters():
            parameter.mul_(1e4)
        assert torch.isfinite(method.predict(random_batches()[1].images)).all()


def test_without_use_for_the_target_its_statistics_are_left_alone():
    source, target = random_batches()
    statistics = []
    for images in (target.images, 255 - target.images):
        method = plca(bn="train", association="none", smoothing_weight=0.0)
        method.train().phase(source, TargetBatch(images, target.geometry, target.names))
        statistics.append(method.segmentor.stages["layer4"][0].bn1.running_mean)
    assert torch.equal(*statistics)


def test_self_training_gets_the_target_logits():
    source, target = random_batches()
    pseudo_labels = torch.zeros_like(source.labels)
    target = TargetBatch(target.images, target.geometry, target.names, pseudo_labels)
    for options in ({}, {"association": "none", "smoothing_weight": 0.0}):
        method = plca(**options).eval()
        logits = method.phase(source, target).target_logits
        assert logits.requires_grad
        torch.testing.assert_close(logits, method.segmentor(target.images))


def test_bfloat16_features_are_associated_in_float32():
    source, target = random_batches()
    method = plca().eval()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [method.segmentor.outputs(b.images) for b in (source, target)]
        assert outputs[0].features.dtype == torch.bfloat16
        inside, _ = method.associate("features", *outputs, source.labels)
    outputs = [Outputs(o.features.float(), o.logits.float()) for o in outputs]
    outside, _ = method.associate("features", *outputs, source.labels)
    assert inside.dtype == torch.float32 and inside.item() == outside.item()


def test_pictures_have_a_row_for_each_pair():
    method = plca().eval()
    with torch.no_grad():
        two = method.pictures(*random_batches(2))
        one = method.pictures(*random_batches(1))
        assert plca(association="none").eval().pictures(*random_batches(1)) == {}
    assert set(two) == LEVELS
    for name in LEVELS:
        assert two[name].dtype == np.uint8 and two[name].shape[2] == 3
        assert two[name].shape[0] == 2 * one[name].shape[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"association": "all"}, r"PLCA.ASSOCIATION is 'all', expected one of both"),
        ({"similarity": "cosine"}, r"PLCA.SIMILARITY is 'cosine'"),
        ({"association_weight": -1}, r"PLCA.ASSOCIATION_WEIGHT is -1"),
        ({"smoothing_weight": -1}, r"PLCA.SMOOTHING_WEIGHT is -1"),
        ({"alpha": 0.0}, r"PLCA.ALPHA is 0.0.*PLCA.AGGREGATION False"),
        ({"gamma": 0}, r"PLCA.GAMMA is 0"),
        ({"epsilon": 0}, r"PLCA.EPSILON is 0"),
        ({"block": 0}, r"PLCA.BLOCK is 0"),
    ],
)
def test_wrong_options_name_the_key(options, message):
    with pytest.raises(UserError, match=message):
        PlcaOptions(**options)
