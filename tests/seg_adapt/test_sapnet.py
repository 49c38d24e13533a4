import pytest
import torch
import torch.nn.functional as F
from conftest import descend, random_batches, tiny_segmentor

from seg_adapt.config import defaults
from seg_adapt.methods.sapnet import SapNet, SapNetOptions
from seg_adapt.options import LayerRates
from shared.config import load_config
from shared.errors import UserError

SMALL = {"levels": (3, 9), "embed_channels": 16, "guide_channels": 16}


def sapnet(feature_stage="", bn="frozen", **options):
    torch.manual_seed(1)
    options = SapNetOptions(**SMALL | options, feature_stage=feature_stage)
    return SapNet(tiny_segmentor(bn=bn), options)


def test_default_is_the_papers_pyramid_on_layer4_guided_by_the_logits():
    cfg = load_config(defaults(), None, ["METHOD", "sapnet"])
    method = SapNet.from_config(cfg, tiny_segmentor())
    assert method.options == SapNetOptions()
    assert method.options.levels == (3, 9, 15, 21, 27, 33, 39, 45, 51)
    assert (method.feature_stage, method.options.loss_weight) == ("layer4", 0.1)
    channels = method.segmentor.channels_at("layer4")
    assert method.discriminator.guide_net[0].in_channels == channels + 5
    assert method.discriminator.guide_net[0].out_channels == 256


def test_loss_is_lambda_times_both_cross_entropies():
    method = sapnet(loss_weight=0.3).eval()
    source, target = random_batches()
    phase = method.phase(source, target)
    assert set(phase.losses) == {"seg", "sap"}
    expected = 0.0
    for label, images in enumerate((source.images, target.images)):
        outputs = method.segmentor.outputs(images)
        logits = method.discriminator(outputs.features, outputs.logits).logits
        expected = expected + F.cross_entropy(logits, torch.full((2,), label))
    torch.testing.assert_close(phase.losses["sap"], 0.3 * expected)
    assert 0 <= phase.records["accuracy/domain"] <= 1


@pytest.mark.parametrize("part", ["layer4", "head"])
def test_a_step_of_backbone_or_head_hides_the_domain(part):
    """Descending along the loss's gradient must raise the pyramid's loss: features and guide."""
    # Detached features would leave the backbone the guide alone, and the reverse for the head.
    method = sapnet(loss_weight=1.0).double().eval()
    batches = random_batches()
    before = method.phase(*batches).losses["sap"]
    descend(before, method.segmentor.stages[part], 1e-4)
    assert method.phase(*batches).losses["sap"] > before


@pytest.mark.parametrize("detach", [False, True])
def test_head_is_trained_against_the_pyramid_through_the_guide_unless_detached(detach):
    method = sapnet(guide_detach=detach)
    loss = method.phase(*random_batches()).losses["sap"]
    stages = method.segmentor.stages
    layer4 = [p for p in stages["layer4"].parameters() if p.requires_grad]
    head = list(stages["head"].parameters())
    gradients = torch.autograd.grad(loss, layer4 + head, allow_unused=True)
    assert all(g.any() for g in gradients[: len(layer4)])
    reached = [g is not None and bool(g.any()) for g in gradients[len(layer4) :]]
    assert not any(reached) if detach else any(reached)


def test_pyramid_has_a_rate_of_its_own_in_the_same_optimizer():
    method = sapnet(lr_mult=7.0)
    groups = method.groups(LayerRates())
    assert list(groups) == ["model"]
    discriminator = groups["model"][-1]
    assert discriminator["lr_mult"] == 7.0
    assert {id(p) for p in discriminator["params"]} == {
        id(p) for p in method.discriminator.parameters()
    }


def test_features_can_be_taken_at_another_stage():
    method = sapnet("layer3")
    assert method.discriminator.embedding[0].in_channels == method.segmentor.channels_at("layer3")
    assert torch.isfinite(method.phase(*random_batches()).losses["sap"])
    with pytest.raises(UserError, match=r"unknown stage 'layer9'"):
        sapnet("layer9")


@pytest.mark.parametrize(
    "overrides",
    [
        ["SAP.GUIDE", "False"],
        ["SAP.CHANNEL_ATTENTION", "False"],
        ["SAP.PYRAMID", "False"],
        ["SAP.POOLING", "max"],
        ["SAP.LEVELS", "[3, 21, 37]"],
        ["SAP.LOSS_REDUCTION", "mean", "SAP.ALIGN_CORNERS", "True", "SAP.EMBED_KERNEL", "3"],
    ],
)
def test_ablations_by_key(overrides):
    keys = ["SAP.EMBED_CHANNELS", "16", "SAP.GUIDE_CHANNELS", "16", *overrides]
    method = SapNet.from_config(load_config(defaults(), None, keys), tiny_segmentor())
    losses = method.phase(*random_batches()).losses
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_target_logits_are_offered_from_the_same_forward():
    method = sapnet()
    source, target = random_batches()
    logits = method.phase(source, target).target_logits
    assert logits.requires_grad
    torch.testing.assert_close(logits, method.segmentor(target.images))


def test_pictures_show_every_level_of_every_target_image():
    method = sapnet().eval()
    with torch.no_grad():
        picture = method.pictures(*random_batches())["attention_pyramid"]
    assert picture.shape[2] == 3 and picture.shape[0] > 2 * 192
    assert sapnet(pyramid=False).pictures(*random_batches()) == {}
