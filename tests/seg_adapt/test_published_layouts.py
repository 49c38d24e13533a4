"""Files fabricated in the published layouts fill the right networks."""

import pytest
import torch
from conftest import network
from fabricated import (
    VGG_CONVS,
    aspp,
    fabricate,
    resnet_trunk,
    shapes,
    torchvision_convs,
    trained_vgg,
    unfilled,
    write,
)

from seg_adapt.models.layouts import translate
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import load_weights
from seg_adapt.options import AsppOptions
from shared.errors import UserError

CAFFE = {"layout": "caffe", "preprocessing": "caffe", "aspp": AsppOptions((6, 12))}


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


def vgg_names(convs: list[str]) -> dict[str, str]:
    """Our names of weights and biases -> those in a file that calls its convolutions `convs`."""
    return {
        f"{ours[:5]}.{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in zip(VGG_CONVS, convs, strict=True)
        for kind in ("weight", "bias")
    }


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


@pytest.mark.parametrize("split", [False, True], ids=["adaptsegnet", "dast"])
def test_trained_vgg_layouts(tmp_path, split):
    names, convs, fc = trained_vgg(split)
    state = write(tmp_path / "vgg.pth", names)
    segmentor = unfilled("vgg16_fc7_d4", preprocessing="caffe", aspp=AsppOptions((6, 12)))
    report = load_weights(segmentor, tmp_path / "vgg.pth")
    check_backbone(segmentor, state, vgg_names(convs).get)
    for name, theirs in zip(("fc6", "fc7"), fc, strict=True):
        module = segmentor.stages["fc"].get_submodule(name)
        assert torch.equal(module.weight, state[f"{theirs}.weight"])
    check_head(segmentor, state, "classifier.conv2d_list")
    assert not report.missing and not report.unexpected and len(report.ignored) == 4
