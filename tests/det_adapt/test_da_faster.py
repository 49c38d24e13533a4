"""DA-Faster's three losses, from the paper's equations, and on detectors of either engine."""

import math

import pytest
import torch
from networks import (
    ADVERSARY,
    DA_FASTER,
    EMPTY,
    ENGINES,
    FPN_GN,
    ONE,
    RESNET18,
    TWO,
    VGG16,
    build,
    losses_of,
    recording,
    unlabeled,
)

from det_adapt.da_faster import DaFasterLoss, DaFasterOptions
from det_adapt.structures import Maps


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


OPTIONS = {"loss_weight": 0.3, "image_channels": 5, "instance_channels": 6, "dropout": 0.0}


def heads(read=("c4",), **options):
    torch.manual_seed(2)
    module = DaFasterLoss(DaFasterOptions(**OPTIONS | options), list(read), 4, 7).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return module


def maps(seed, counts=(3, 5), grad=False):
    """Of two images, with so many regions."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        tensor = torch.randn(*shape, generator=generator).double()
        return tensor.requires_grad_(grad)

    sizes = ((3, 4), (2, 5))
    features = {
        name: [draw(1, 4, scale * h, scale * w) for h, w in sizes]
        for name, scale in (("c4", 1), ("p3", 2))
    }
    return Maps(features, {}, [draw(count, 7) for count in counts])


def probability(head, vector):
    """Of the target, of one cell or region: through the layers one by one."""
    for layer in head:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            weight = layer.weight.flatten(1)
            vector = [
                sum(w * x for w, x in zip(row, vector, strict=True)) + bias
                for row, bias in zip(weight.tolist(), layer.bias.tolist(), strict=True)
            ]
        elif isinstance(layer, torch.nn.ReLU):
            vector = [max(x, 0.0) for x in vector]
    return 1 / (1 + math.exp(-vector[0]))


def loops(module, source, target):
    """The three losses without λ, cell by cell and region by region."""
    image = instance = consistency = 0.0
    names = module.features
    for domain, own in enumerate((source, target)):

        def entropy(p, domain=domain):
            return -math.log(p if domain else 1 - p)

        for number, regions in enumerate(own.regions):
            per_map = []
            for name in names:
                x = own.features[name][number][0]
                cells = x.flatten(1).T.tolist()
                per_map.append([probability(module.image, cell) for cell in cells])
            image += sum(sum(map(entropy, each)) / len(each) for each in per_map) / len(names) / 4
            mean = sum(sum(each) / len(each) for each in per_map) / len(names)
            found = [probability(module.instance, region) for region in regions.tolist()]
            if found:
                instance += sum(map(entropy, found)) / len(found) / 4
                consistency += sum(abs(mean - p) for p in found) / len(found) / 4
    return {"image": image, "instance": instance, "consistency": consistency}


@pytest.mark.parametrize("read", [("c4",), ("p3", "c4")])
@pytest.mark.parametrize("counts", [(3, 5), (0, 4)])
@torch.no_grad()
def test_losses_against_loops(read, counts):
    weights = {"image_weight": 2.0, "instance_weight": 0.5, "consistency_weight": 3.0}
    module, source, target = heads(read, **weights), maps(0), maps(1, counts)
    losses, logs = module(source, target)
    expected = loops(module, source, target)
    assert losses.keys() == {f"loss_da_{name}" for name in expected}
    for name, value in expected.items():
        weighted = 0.3 * weights[f"{name}_weight"] * value
        assert losses[f"loss_da_{name}"].item() == pytest.approx(weighted, rel=1e-12)
        assert value > 0
    hits = [
        sum((probability(module.instance, v) > 0.5) == bool(domain) for v in rows) / len(rows)
        for domain, own in enumerate((source, target))
        for rows in [torch.cat(own.regions).tolist()]
    ]
    assert logs["accuracy/da_instance"].item() == pytest.approx(sum(hits) / 2)
    assert logs.keys() == {"accuracy/da_image", "accuracy/da_instance"}


def test_adversarial_gradients_are_reversed_and_the_consistencys_are_not():
    module = heads(grl_scale=2.0)

    def gradients(losses, inputs):
        return torch.autograd.grad(losses, [*inputs.features["c4"], *inputs.regions])

    source, target = maps(0, grad=True), maps(1, grad=True)
    losses, _ = module(source, target)
    reversed_ = gradients(losses["loss_da_image"] + losses["loss_da_instance"], target)
    plain = sum(
        torch.nn.functional.softplus(-logits).mean()
        for head, inputs in (
            (module.image, target.features["c4"]),
            (module.instance, target.regions),
        )
        for logits in map(head, inputs)
    )
    for ours, theirs in zip(reversed_, gradients(0.3 * plain / 4, target), strict=True):
        torch.testing.assert_close(ours, -2 * theirs)
        assert theirs.abs().max() > 0
    losses, _ = module(source, target)
    found = gradients(losses["loss_da_consistency"], target)
    gap = sum(
        (module.image(x).sigmoid().mean() - module.instance(regions).sigmoid()).abs().mean()
        for x, regions in zip(target.features["c4"], target.regions, strict=True)
    )
    for ours, theirs in zip(found, gradients(0.3 * gap / 4, target), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_without_any_proposal_the_instances_say_nothing():
    module = heads()
    source, target = (maps(seed, counts=(0, 0), grad=True) for seed in (0, 1))
    losses, logs = module(source, target)
    assert losses["loss_da_instance"] == losses["loss_da_consistency"] == 0
    assert logs["accuracy/da_instance"] == 0.5
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert not any(p.grad.any() for p in module.instance.parameters())
    assert all(x.grad.any() for x in target.features["c4"])


@pytest.mark.parametrize(
    ("off", "left", "regions"),
    [
        (("consistency", "instance"), {"image"}, 0),
        (("consistency", "image"), {"instance"}, 256),
        (("image", "instance"), {"consistency"}, 256),
    ],
)
def test_each_part_can_be_left_out_and_has_no_head_then(off, left, regions):
    module = heads(**{f"{name}_weight": 0.0 for name in off})
    assert module.regions == regions
    losses, _ = module(maps(0), maps(1))
    assert losses.keys() == {f"loss_da_{name}" for name in left}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


# --- detectors -----------------------------------------------------------------------------------

MODELS = {"vgg16": VGG16, "resnet18_c4": RESNET18, "fpn": FPN_GN}


@pytest.fixture(params=MODELS)
def detector(engine, request):
    return build(engine, MODELS[request.param] | DA_FASTER)


def test_gradients_reach_every_part(engine, detector):
    losses = losses_of(engine, detector, [ONE, TWO], [unlabeled(TWO), unlabeled(EMPTY)])
    names = {"loss_da_image", "loss_da_instance", "loss_da_consistency"}
    assert names < losses.keys() and "loss_sap" not in losses
    for name in names:
        detector.zero_grad()
        losses[name].backward(retain_graph=True)
        parts = {n.split(".")[0] for n, p in detector.named_parameters() if p.grad is not None}
        assert {"backbone", "da_faster"} <= parts
        assert ("roi_heads" in parts) == (name != "loss_da_image")
    detector.zero_grad()
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert not parameter.requires_grad or parameter.grad.abs().sum() > 0, name


def test_annotations_of_the_target_are_never_read(engine, detector):
    plain = losses_of(engine, detector, [ONE], [unlabeled(TWO)])
    same = losses_of(engine, detector, [ONE], [TWO])
    assert {n: v.item() for n, v in plain.items()} == {n: v.item() for n, v in same.items()}


def test_regions_are_the_best_proposals_of_an_image(engine, detector):
    detector.train()
    seen = detector.target([unlabeled(ONE), unlabeled(EMPTY)])
    assert [len(own) for own in seen.regions] == [8, 8]
    assert not seen.logits  # no pyramid asks for them
    with recording(engine):
        _, source = detector.source([ONE])
    for own, other in zip(source.regions, detector.target([ONE]).regions, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-5)
    # Training goes on as it was.
    assert all(module.training for module in detector.modules())


def test_both_adversaries_can_act_at_once(engine):
    detector = build(engine, VGG16 | ADVERSARY | DA_FASTER)
    losses = losses_of(engine, detector, [ONE], [unlabeled(TWO)])
    assert {"loss_sap", "loss_sap_lower", "loss_da_image", "loss_da_instance"} < losses.keys()
    alone = build(engine, VGG16 | ADVERSARY)
    expected = losses_of(engine, alone, [ONE], [unlabeled(TWO)])
    for name, loss in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=1e-5), name


@pytest.mark.detectron2
def test_one_box_head_is_asked_for():
    from shared.errors import UserError

    cascade = {
        "MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
    }
    with pytest.raises(UserError, match="is CascadeROIHeads: use StandardROIHeads"):
        build("detectron2", VGG16 | DA_FASTER | cascade)
