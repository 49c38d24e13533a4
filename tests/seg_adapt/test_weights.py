"""Weights of our own files, of torchvision and of no use."""

import pytest
import torch
import torchvision
from commands import fails
from conftest import network
from fabricated import aspp, resnet_trunk, trained_vgg, unfilled, write

from seg_adapt import convert_weights
from seg_adapt.models.preprocessing import Preprocessing
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.models.weights import load_pretrained, load_weights, torchvision_weights
from seg_adapt.options import AsppOptions
from shared.cli import call
from shared.errors import MissingFileError, UserError


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


@pytest.mark.parametrize(
    ("architecture", "new"),
    [("resnet18", {"head"}), ("pspnet_resnet18", {"ppm", "head", "auxiliary"})],
)
def test_a_backbone_alone_is_filled_in(tmp_path, architecture, new):
    state = network(architecture, 7, width=0.1).state_dict()
    backbone = {name: x for name, x in state.items() if name.split(".")[1] not in new}
    torch.save({"segmentor": backbone}, tmp_path / "backbone.pth")
    segmentor = network(architecture, 5, width=0.1)
    report = load_pretrained(segmentor, str(tmp_path / "backbone.pth"))
    assert {name.split(".")[1] for name in report.missing} == new
    filled = segmentor.state_dict()
    assert all(torch.equal(x, filled[name]) for name, x in backbone.items())


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
    names, _, _ = trained_vgg(split=False)
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
