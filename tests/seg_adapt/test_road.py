import pytest
import torch
import torch.nn.functional as F
from conftest import descend, random_batches, tiny_segmentor

from seg_adapt.methods.road import Road, RoadOptions, distillation_loss, spatial_loss
from seg_adapt.pictures import draw_regions
from seg_adapt.structures import TargetBatch
from shared.errors import UserError


def road(bn="frozen", **options):
    torch.manual_seed(1)
    method = Road(tiny_segmentor(bn=bn), RoadOptions(**options))
    method.prepare()
    return method


def test_distillation_is_the_mean_unsquared_channel_norm():
    x, z = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 4, 5).double()
    expected = sum(
        (x[n, :, i, j] - z[n, :, i, j]).square().sum().sqrt()
        for n in range(2)
        for i in range(4)
        for j in range(5)
    )
    assert distillation_loss(x, z).item() == pytest.approx(expected.item() / 40, rel=1e-6)


def test_distillation_gradient_is_finite_where_student_equals_teacher():
    x = torch.randn(1, 8, 3, 3, requires_grad=True)
    loss = distillation_loss(x, x.detach())
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(x.grad).all() and not x.grad.any()


def test_first_step_starts_at_the_teacher():
    method = road(spatial=False)
    source, target = random_batches()
    losses = method.train().phase(source, target).losses
    assert losses["distillation"].item() == 0.0
    assert set(losses) == {"seg", "distillation"}


def test_teacher_does_not_move_and_is_not_saved():
    method = road()
    target = random_batches()[1]
    before = method.teacher(target.images)
    with torch.no_grad():
        for p in method.segmentor.parameters():
            p.add_(1.0)
    assert torch.equal(before, method.teacher(target.images))
    assert not any("teacher" in key for key in method.state_dict())
    assert not any("teacher" in key for key, _ in method.named_parameters())


def reference_spatial(source, target, reduction):
    """Eqs. 2 and 3 written out."""
    total = 0.0
    for s, t in zip(source, target, strict=True):
        if len(s) == 0 or len(t) == 0:
            continue
        ce_source = [F.softplus(logit) for logit in s]  # -log(1 - sigmoid)
        ce_target = [F.softplus(-logit) for logit in t]  # -log sigmoid
        if reduction == "pooled":
            total += sum(ce_source + ce_target) / (len(s) + len(t))
        else:
            total += (sum(ce_source) / len(s) + sum(ce_target) / len(t)) / 2
    return total


@pytest.mark.parametrize("reduction", ["per_domain", "pooled"])
def test_spatial_loss_against_the_equations(reduction):
    torch.manual_seed(0)
    source = [torch.randn(n).double() for n in (3, 0, 5)]
    target = [torch.randn(n).double() for n in (2, 4, 7)]
    loss, shared = spatial_loss(source, target, reduction)
    assert shared == 2
    assert loss.item() == pytest.approx(reference_spatial(source, target, reduction).item())


def test_spatial_loss_without_any_shared_region_is_zero_and_has_a_gradient():
    logits = torch.randn(3, requires_grad=True)
    loss, shared = spatial_loss([logits, logits[:0]], [logits[:0], logits])
    loss.backward()
    assert (loss.item(), shared) == (0.0, 0)
    assert not logits.grad.any()


def spatial_gradients(lambda_on, weight):
    method = road(distillation="none", spatial_weight=weight, lambda_on=lambda_on)
    # Larger than the initial N(0, 0.001), so that features get a gradient worth comparing.
    with torch.no_grad():
        for p in method.classifiers.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    loss = method.eval().phase(*random_batches()).losses["spatial"]
    backbone = list(method.segmentor.stages["layer4"].parameters())
    backbone = [p for p in backbone if p.requires_grad]
    heads = list(method.classifiers.parameters())
    return torch.autograd.grad(loss, [backbone[0], heads[0]])


def test_lambda_2_scales_the_reversed_gradient_once_and_by_default_not_the_classifiers():
    backbone_1, head_1 = spatial_gradients("grl", 1.0)
    backbone_s, head_s = spatial_gradients("grl", 0.01)
    torch.testing.assert_close(backbone_s, 0.01 * backbone_1)
    torch.testing.assert_close(head_s, head_1)
    backbone_l, head_l = spatial_gradients("loss", 0.01)
    torch.testing.assert_close(backbone_l, 0.01 * backbone_1)
    torch.testing.assert_close(head_l, 0.01 * head_1)


def test_backbone_gradient_is_the_reverse_of_the_classifiers_interest():
    """One step of the backbone along −gradient must raise the domain classifiers' loss."""
    method = road(distillation="none", spatial_weight=1.0).double().eval()
    with torch.no_grad():
        for p in method.classifiers.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    batches = random_batches()
    before = method.phase(*batches).losses["spatial"]
    descend(before, method.segmentor.stages["layer4"], 1e-5)
    assert method.phase(*batches).losses["spatial"] > before


@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (2, 2), (3, 3)])
def test_region_grids_of_the_ablation(grid):
    method = road(regions=grid)
    phase = method.phase(*random_batches())
    assert len(method.classifiers.heads) == grid[0] * grid[1]
    assert torch.isfinite(phase.losses["spatial"])
    assert phase.records["regions/shared"] == 1.0


def test_source_distillation_and_other_ablations():
    source, target = random_batches()
    method = road(distillation="source", spatial=False)
    with torch.no_grad():
        next(p for p in method.segmentor.parameters() if p.requires_grad).mul_(1.5)
    features = method.segmentor.run(source.images, until="layer4")
    expected = 0.1 * distillation_loss(features, method.teacher(source.images))
    torch.testing.assert_close(method.phase(source, target).losses["distillation"], expected)
    assert set(road(distillation="none", spatial=False).phase(source, target).losses) == {"seg"}
    assert road(feature_stage="layer3").classifiers.heads[0][0].in_features == 32


def test_ablations_without_a_use_for_the_target_leave_its_statistics_alone():
    source, target = random_batches()
    statistics = []
    for batch in (target, TargetBatch(255 - target.images, target.geometry, target.names)):
        method = road(bn="train", distillation="source", spatial=False)
        method.train().phase(source, batch)
        statistics.append(method.segmentor.stages["layer4"][0].bn1.running_mean)
    assert torch.equal(*statistics)


def test_a_new_layer_cannot_teach():
    with pytest.raises(UserError, match=r"ROAD.FEATURE_STAGE head is a new layer"):
        road(feature_stage="head")
    road(feature_stage="head", distillation="none")


def test_wrong_options_name_the_key():
    with pytest.raises(UserError, match=r"ROAD.DISTILLATION is 'both'"):
        RoadOptions(distillation="both")
    with pytest.raises(UserError, match=r"ROAD.REGIONS is \[0, 3\], expected \[rows, columns\]"):
        RoadOptions(regions=(0, 3))


def test_no_silent_random_teacher():
    method = Road(tiny_segmentor())
    method.pretrained = False
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS is empty"):
        method.prepare()
    untaught = Road(tiny_segmentor(), RoadOptions(distillation="none"))
    untaught.pretrained = False
    untaught.prepare()


def test_regions_picture_counts_the_cells_of_every_region():
    method = road().eval()
    with torch.no_grad():
        pictures = method.pictures(*random_batches(2, (64, 128)))
    assert set(pictures) == {"regions"}
    assert pictures["regions"].shape[1] > 4 * 2 * 256
    assert road(spatial=False).pictures(*random_batches()) == {}


def test_a_region_is_colored_by_its_domain():
    image = torch.full((3, 40, 80), 128, dtype=torch.uint8)
    regions = torch.tensor([[0] * 5 + [1] * 5] * 5)
    drawn = draw_regions(image, regions, (regions == 1).float())
    assert drawn.shape == (240, 480, 3)
    left, right = drawn[180, 60].astype(int), drawn[180, 420].astype(int)
    assert left[2] > left[0] and right[0] > right[2]
    padded = draw_regions(image, torch.full_like(regions, -1), torch.zeros(5, 10))
    assert (padded == 128).all()
