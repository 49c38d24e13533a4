"""What the weights expect of images."""

import pytest
import torch
import torchvision
from architectures import noise, thin

from seg_adapt.models.preprocessing import Preprocessing


def test_caffe_preprocessing_is_bgr_minus_the_mean():
    images = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    out = Preprocessing("caffe")(images)
    expected = torch.tensor([30 - 104.00698793, 20 - 116.66876762, 10 - 122.67891434])
    torch.testing.assert_close(out[0, :, 0, 0], expected)


def test_torchvision_preprocessing_is_torchvision_s():
    images = noise(4, 4)
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    expected = torchvision.transforms.functional.normalize(
        images.float() / 255, preset.mean, preset.std
    )
    torch.testing.assert_close(Preprocessing("torchvision")(images), expected)
    torch.testing.assert_close(Preprocessing("torchvision")(images.float()), expected)


def test_preprocessing_travels_with_the_checkpoint():
    caffe, other = thin(preprocessing="caffe").eval(), thin(preprocessing="torchvision").eval()
    assert (caffe.preprocessing.kind, other.preprocessing.kind) == ("caffe", "torchvision")
    other.load_state_dict(caffe.state_dict())
    assert other.preprocessing.kind == "caffe"
    assert torch.equal(other(noise()), caffe(noise()))


def test_images_without_three_channels_are_refused():
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        thin()(torch.zeros(1, 4, 8, 8))
