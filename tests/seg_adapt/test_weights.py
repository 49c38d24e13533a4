"""Files fabricated in the published layouts: tensors of full size that share one stored value."""

from pathlib import Path

import pytest
import torch
import torchvision
from commands import fails
from conftest import network

from seg_adapt import convert_weights
from seg_adapt.models.build import build_classifier
from seg_adapt.models.layouts import translate
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import load_pretrained, load_weights, torchvision_weights
from seg_adapt.options import AsppOptions, ModelOptions
from shared.cli import call
from shared.errors import MissingFileError, UserError

CAFFE = {"layout": "caffe", "preprocessing": "caffe", "aspp": AsppOptions((6, 12))}
ARCHITECTURE = {"resnet101": torchvision.models.resnet101, "vgg16": torchvision.models.vgg16}


def unfilled(architecture: str = "resnet101", **options) -> Segmentor:
    """A full-size segmentor whose parameters are NaN until a file fills them."""
    with torch.device("meta"):
        segmentor = network(architecture, **{"num_classes": 19} | options)
    segmentor.to_empty(device="cpu")
    for parameter in segmentor.parameters():
        parameter.data.fill_(torch.nan)
    segmentor.preprocessing = Preprocessing(options.get("preprocessing", "torchvision"))
    return segmentor


def shapes(architecture: str) -> dict[str, torch.Size]:
    """torchvision's names and shapes, without the counters that files of that time lack."""
    with torch.device("meta"):
        state = ARCHITECTURE[architecture]().state_dict()
    return {n: t.shape for n, t in state.items() if not n.endswith("num_batches_tracked")}


def aspp(prefix: str, channels: int, classes: int = 19) -> dict[str, tuple[int, ...]]:
    names = {}
    for branch in range(4):
        names[f"{prefix}.conv2d_list.{branch}.weight"] = (classes, channels, 3, 3)
        names[f"{prefix}.conv2d_list.{branch}.bias"] = (classes,)
    return names


def resnet_trunk() -> dict[str, tuple[int, ...]]:
    return {n: s for n, s in shapes("resnet101").items() if not n.startswith("fc.")}


def fabricate(names: dict) -> dict[str, torch.Tensor]:
    return {n: torch.tensor(float(i)).expand(s) for i, (n, s) in enumerate(names.items(), 1)}


def write(path: Path, names: dict, nest: str | None = None) -> dict[str, torch.Tensor]:
    state = fabricate(names)
    torch.save({nest: state} if nest else state, path)
    return state


def check_backbone(segmentor: Segmentor, state: dict, rename) -> None:
    """Every backbone tensor of ours holds the value of its counterpart in the file."""
    seen = 0
    for name, tensor in segmentor.state_dict().items():
        if not name.startswith("stages.") or name.endswith("num_batches_tracked"):
            continue
        if name.split(".")[1] in segmentor.head_stages:
            continue
        theirs = state[rename(name.removeprefix("stages."))]
        assert tensor.shape == theirs.shape and torch.equal(tensor, theirs), name
        seen += 1
    assert seen == (520 if segmentor.architecture == "resnet101" else 26)


def torchvision_name(name: str) -> str:
    return name.removeprefix("stem.")


def check_head(segmentor: Segmentor, state: dict, prefix: str) -> None:
    for index, branch in enumerate(segmentor.stages["head"].branches):
        assert torch.equal(branch.weight, state[f"{prefix}.{index}.weight"])
        assert torch.equal(branch.bias, state[f"{prefix}.{index}.bias"])


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_torchvision_names_cover_the_backbone(prefix):
    published = translate(fabricate({prefix + n: s for n, s in shapes("resnet101").items()}))
    with torch.device("meta"):
        own = network("resnet101", 19).state_dict()
    backbone = {
        name: tensor.shape
        for name, tensor in own.items()
        if name.startswith("stages.")
        and not name.startswith("stages.head.")
        and not name.endswith("num_batches_tracked")
    }
    assert {name: tensor.shape for name, tensor in published.tensors.items()} == backbone
    assert list(published.ignored.values()) == ["ImageNet classifier"] * 2


@pytest.mark.parametrize("nest", [None, "state_dict", "model"])
def test_plain_resnet_files(tmp_path, nest):
    path = tmp_path / "resnet101-caffe.pth"
    state = write(path, shapes("resnet101"), nest)
    segmentor = unfilled(**CAFFE)
    report = load_weights(segmentor, path)
    check_backbone(segmentor, state, torchvision_name)
    assert len(report.matched) == 520 and len(report.missing) == 4
    assert str(report) == (
        "520 of 524 tensors loaded (layout: ResNet); missing (new layers): stages.head.branches.*; "
        "ignored: fc.* (ImageNet classifier)"
    )


def test_adaptsegnet_initialization_for_any_class_count(tmp_path):
    names = resnet_trunk() | aspp("layer5", 2048, classes=19)
    state = write(tmp_path / "init.pth", {f"Scale.{name}": shape for name, shape in names.items()})
    for classes in (16, 19):
        segmentor = unfilled(**CAFFE, num_classes=classes)
        report = load_weights(segmentor, tmp_path / "init.pth")
        check_backbone(segmentor, state, lambda name: "Scale." + torchvision_name(name))
        assert len(report.matched) == 520 and not report.unexpected
        assert {name.split(".")[1] for name in report.missing} == {"head"}
        assert len(report.ignored) == 8 and "own classes" in str(report)
        assert segmentor.stages["head"].branches[0].weight.isnan().all()


def test_trained_adaptsegnet_single_level(tmp_path):
    state = write(tmp_path / "single.pth", resnet_trunk() | aspp("layer5", 2048))
    segmentor = unfilled(**CAFFE)
    report = load_weights(segmentor, tmp_path / "single.pth")
    check_backbone(segmentor, state, torchvision_name)
    check_head(segmentor, state, "layer5.conv2d_list")
    assert not report.missing and not report.unexpected and not report.notes
    assert list(report.ignored) == [
        f"stages.head.branches.{index}.{kind}" for index in (2, 3) for kind in ("weight", "bias")
    ]
    assert all("never trained" in reason for reason in report.ignored.values())


def test_trained_adaptsegnet_multi_level_uses_the_main_classifier(tmp_path):
    names = resnet_trunk() | aspp("layer5", 1024) | aspp("layer6", 2048)
    state = write(tmp_path / "multi.pth", names)
    segmentor = unfilled(**CAFFE | {"aspp": AsppOptions()})
    report = load_weights(segmentor, tmp_path / "multi.pth")
    check_backbone(segmentor, state, torchvision_name)
    check_head(segmentor, state, "layer6.conv2d_list")
    assert sum("auxiliary" in reason for reason in report.ignored.values()) == 8
    assert not report.missing and not report.unexpected
    assert "[6, 12]" in report.notes[0]


def test_a_trained_head_of_other_classes_is_skipped_and_reported(tmp_path):
    write(tmp_path / "single.pth", resnet_trunk() | aspp("layer5", 2048, classes=19))
    segmentor = unfilled(**CAFFE, num_classes=16)
    report = load_weights(segmentor, tmp_path / "single.pth")
    assert len(report.matched) == 520 and len(report.misshapen) == 4 and not report.missing
    assert "(19, 2048, 3, 3), here (16, 2048, 3, 3)" in str(report)


def test_dast_resnet_needs_its_shortcut(tmp_path):
    names = {}
    for name, shape in resnet_trunk().items():
        names[name.replace("layer4.2.", "layer5.0.")] = shape
    names["layer5.0.downsample.0.weight"] = (2048, 2048, 1, 1)
    for kind in ("weight", "bias", "running_mean", "running_var"):
        names[f"layer5.0.downsample.1.{kind}"] = (2048,)
    path = tmp_path / "dast.pth"
    state = write(path, names | aspp("layer6", 2048))
    segmentor = unfilled(**CAFFE, last_shortcut=True)
    report = load_weights(segmentor, path)
    assert len(report.matched) == 520 + 5 + 4 and not report.missing and not report.unexpected
    last = segmentor.stages["layer4"][2]
    assert torch.equal(last.conv2.weight, state["layer5.0.conv2.weight"])
    assert torch.equal(last.downsample[0].weight, state["layer5.0.downsample.0.weight"])
    check_head(segmentor, state, "layer6.conv2d_list")
    with pytest.raises(UserError, match="last_shortcut"):
        load_weights(unfilled(**CAFFE), path)


@pytest.mark.parametrize("classes", [16, 19])
def test_plca_classes_are_put_into_train_id_order(tmp_path, classes):
    # PLCA's order of train ids: sky, building, road, sidewalk, fence, vegetation, pole, car, ...
    theirs = [10, 2, 0, 1, 4, 8, 5, 13, 7, 11, 18, 17, 6, 12, 15, 3, 9, 14, 16][:classes]
    ours = sorted(theirs)
    state = {f"module.backbone.{n}": t for n, t in fabricate(resnet_trunk()).items()}
    head = torch.tensor(theirs, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2048, 3, 3)
    for branch in range(4):
        state[f"module.classifier.0.convs.{branch}.0.weight"] = head
    torch.save({"weights": state}, tmp_path / "plca.pth")
    options = CAFFE | {"aspp": AsppOptions(bias=False)}
    segmentor = unfilled(**options, num_classes=classes)
    report = load_weights(segmentor, tmp_path / "plca.pth")
    assert report.layout == "PLCA" and not report.missing and not report.unexpected
    for branch in segmentor.stages["head"].branches:
        assert branch.weight[:, 0, 0, 0].tolist() == ours


VGG_CONVS = [f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def vgg_names(convs: list[str]) -> dict[str, str]:
    """Our names of weights and biases -> those in a file that calls its convolutions `convs`."""
    return {
        f"{ours[:5]}.{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in zip(VGG_CONVS, convs, strict=True)
        for kind in ("weight", "bias")
    }


def torchvision_convs() -> list[str]:
    return [n.removesuffix(".weight") for n in shapes("vgg16") if n.startswith("f") and "we" in n]


@pytest.mark.parametrize("architecture", ["vgg16", "vgg16_largefov", "vgg16_fc7_d4"])
@pytest.mark.parametrize("file", ["vgg16-397923af.pth", "vgg16-00b39a1b-updated.pth"])
def test_plain_vgg_files(tmp_path, architecture, file):
    state = write(tmp_path / file, shapes("vgg16"))
    kind = "torchvision" if "397923af" in file else "caffe"
    segmentor = unfilled(architecture, preprocessing=kind, aspp=AsppOptions((6, 12)))
    report = load_weights(segmentor, tmp_path / file)
    check_backbone(segmentor, state, vgg_names(torchvision_convs()).get)
    assert len(report.matched) == 26 and len(report.ignored) == 6 and not report.unexpected
    assert {name.split(".")[1] for name in report.missing} == set(segmentor.head_stages)

    other = "caffe" if kind == "torchvision" else "torchvision"
    with pytest.raises(UserError, match=rf"MODEL\.PREPROCESSING {kind}"):
        load_weights(unfilled(architecture, preprocessing=other), tmp_path / file)


def _trained_vgg(split: bool) -> tuple[dict, list[str], tuple[str, str]]:
    """AdaptSegNet's VGG: torchvision's features without pools 4 and 5, then fc6 and fc7."""
    kept = [f"features.{index}" for index in [*range(23), *range(24, 30)]]
    if split:
        renamed = [f"layer1.{i}" for i in range(16)] + [f"layer2.{i}" for i in range(5)]
        renamed += [f"layer3.{i}" for i in range(len(kept) - 21)]
        fc = ("layer4.0", "layer4.2")
    else:
        renamed = [f"features.{index}" for index in range(len(kept))]
        fc = ("features.29", "features.31")
    convs = [renamed[kept.index(name)] for name in torchvision_convs()]
    names = {}
    for new, old in zip(convs, torchvision_convs(), strict=True):
        for kind in ("weight", "bias"):
            names[f"{new}.{kind}"] = shapes("vgg16")[f"{old}.{kind}"]
    for name, channels in zip(fc, (512, 1024), strict=True):
        names |= {f"{name}.weight": (1024, channels, 3, 3), f"{name}.bias": (1024,)}
    return names | aspp("classifier", 1024), convs, fc


@pytest.mark.parametrize("split", [False, True], ids=["adaptsegnet", "dast"])
def test_trained_vgg_layouts(tmp_path, split):
    names, convs, fc = _trained_vgg(split)
    state = write(tmp_path / "vgg.pth", names)
    segmentor = unfilled("vgg16_fc7_d4", preprocessing="caffe", aspp=AsppOptions((6, 12)))
    report = load_weights(segmentor, tmp_path / "vgg.pth")
    check_backbone(segmentor, state, vgg_names(convs).get)
    for name, theirs in zip(("fc6", "fc7"), fc, strict=True):
        module = segmentor.stages["fc"].get_submodule(name)
        assert torch.equal(module.weight, state[f"{theirs}.weight"])
    check_head(segmentor, state, "classifier.conv2d_list")
    assert not report.missing and not report.unexpected and len(report.ignored) == 4


def test_own_files_and_checkpoints_round_trip(tmp_path):
    first = network("resnet18", 5, width=0.1)
    state = first.state_dict()
    method = {f"segmentor.{name}": tensor for name, tensor in state.items()}
    method["discriminator.0.weight"] = torch.zeros(3)
    files = {"plain": state, "ours": {"segmentor": state}, "run": {"method": method, "step": 3}}
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        second = network("resnet18", 5, width=0.1)
        report = load_weights(second, tmp_path / name)
        assert not report.missing and not report.unexpected
        assert all(torch.equal(tensor, state[key]) for key, tensor in second.state_dict().items())
    assert report.ignored == {"discriminator.0.weight": "not the segmentor's"}


def test_a_pretrained_classifier_fills_the_backbone(tmp_path):
    classifier = build_classifier(ModelOptions(architecture="resnet18", width=0.1), 7)
    torch.save({"segmentor": classifier.state_dict()}, tmp_path / "toy.pth")
    segmentor = network("resnet18", 5, width=0.1)
    report = load_pretrained(segmentor, str(tmp_path / "toy.pth"))
    assert {name.split(".")[1] for name in report.missing} == {"head"}
    kernel = segmentor.stages["layer4"][0].conv1.weight
    assert torch.equal(kernel, classifier.stages["layer4"][0].conv1.weight)


def thin(depth: int, width: float = 0.1) -> Segmentor:
    return network(f"resnet{depth}", 5, width=width)


@pytest.mark.parametrize(
    ("stored", "model", "message"),
    [
        ((50, 0.1), (101, 0.1), "another architecture"),
        ((101, 0.1), (50, 0.1), "no place for"),
        ((18, 0.2), (18, 0.1), r"shape \(13, 3, 7, 7\), here \(6, 3, 7, 7\)"),
    ],
)
def test_another_backbone_is_an_error(tmp_path, stored, model, message):
    torch.save(thin(*stored).state_dict(), tmp_path / "file.pth")
    segmentor = thin(*model)
    before = {name: tensor.clone() for name, tensor in segmentor.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(segmentor, tmp_path / "file.pth")
    after = segmentor.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_file_that_fills_nothing_is_an_error_unless_allowed(tmp_path):
    torch.save({"stages.conv1.conv1_1.weight": torch.zeros(2)}, tmp_path / "file.pth")
    with pytest.raises(UserError, match="nothing of the backbone"):
        load_weights(thin(18), tmp_path / "file.pth")
    report = load_weights(thin(18), tmp_path / "file.pth", require_backbone=False)
    assert not report.matched and report.unexpected == ["stages.conv1.conv1_1.weight"]


class Unsafe:
    pass


def test_what_is_no_weights_file_is_named_in_one_line(tmp_path):
    (tmp_path / "text").write_text("<html>404</html>")
    (tmp_path / "empty").write_bytes(b"")
    torch.save(thin(18).state_dict(), tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:2000])
    torch.save({"model": Unsafe()}, tmp_path / "unsafe")
    torch.save([torch.zeros(2)], tmp_path / "list")
    torch.save({"a": 1}, tmp_path / "numbers")
    torch.save({"encoder.weight": torch.zeros(2)}, tmp_path / "unknown")
    for name in ("text", "empty", "cut", "unsafe", "list", "numbers", "unknown"):
        with pytest.raises(UserError) as caught:
            load_weights(thin(18), tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_says_where_and_how():
    with pytest.raises(MissingFileError, match=r"no/such\.pth.*MODEL\.WEIGHTS"):
        load_pretrained(thin(18), "no/such.pth")


def test_conventions_that_shapes_do_not_show_are_checked(tmp_path):
    write(tmp_path / "single.pth", resnet_trunk() | aspp("layer5", 2048))
    with torch.device("meta"):
        wrong = network("resnet101", 19, layout="torchvision")
    wrong.preprocessing = Preprocessing("caffe")
    with pytest.raises(UserError, match=r"MODEL\.LAYOUT caffe"):
        load_weights(wrong, tmp_path / "single.pth")


def test_empty_means_from_scratch():
    segmentor = thin(18)
    before = segmentor.stages["stem"].conv1.weight.clone()
    assert load_pretrained(segmentor, "") is None
    assert torch.equal(segmentor.stages["stem"].conv1.weight, before)


@pytest.mark.parametrize(
    ("architecture", "heads"),
    [("resnet18", {"head"}), ("pspnet_resnet18", {"ppm", "head", "auxiliary"})],
)
def test_torchvision_weights_come_from_its_own_cache(tmp_path, monkeypatch, architecture, heads):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with torch.device("meta"):
        state = torchvision.models.resnet18().state_dict()
    names = {name: tensor.shape for name, tensor in state.items()}
    write(tmp_path / "checkpoints" / "resnet18-f37072fd.pth", names)
    segmentor = network(architecture, 5)
    report = load_pretrained(segmentor, "torchvision")
    assert {name.split(".")[1] for name in report.missing} == heads
    caffe = network(architecture, 5, preprocessing="caffe")
    with pytest.raises(UserError, match=r"MODEL\.PREPROCESSING torchvision"):
        load_pretrained(caffe, "torchvision")


def test_torchvision_weights_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(UserError) as caught:
        torchvision_weights("resnet18")
    message = str(caught.value)
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in message
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in message
    assert "MODEL.WEIGHTS" in message and "\n" not in message
    with pytest.raises(UserError, match="no weights for 'pspnet'"):
        torchvision_weights("pspnet")


def test_converting_writes_a_file_of_ours(tmp_path, capsys):
    names, _, _ = _trained_vgg(split=False)
    write(tmp_path / "theirs.pth", names)
    argv = [str(tmp_path / "theirs.pth"), str(tmp_path / "new" / "ours.pth")]
    argv += ["--architecture", "vgg16_fc7_d4", "--rates", "6", "12"]
    assert call(convert_weights.main, argv) == 0
    assert "34 of 34 tensors loaded" in capsys.readouterr().out
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["ours.pth"]
    segmentor = unfilled("vgg16_fc7_d4", preprocessing="caffe", aspp=AsppOptions((6, 12)))
    report = load_weights(segmentor, tmp_path / "new" / "ours.pth")
    assert report.layout == "ours" and not report.missing and not report.unexpected
    wrong = unfilled("vgg16_fc7_d4", preprocessing="torchvision", aspp=AsppOptions((6, 12)))
    with pytest.raises(UserError, match=r"MODEL\.PREPROCESSING caffe"):
        load_weights(wrong, tmp_path / "new" / "ours.pth")


def test_converting_a_missing_file_is_one_line(capsys):
    assert "no/such.pth" in fails(capsys, convert_weights.main, "no/such.pth", "out.pth")
