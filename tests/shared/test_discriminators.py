import torch

from shared.discriminators import ConvDiscriminator


def test_conv_discriminator_has_adaptsegnets_shape():
    discriminator = ConvDiscriminator(19)
    convolutions = [m for m in discriminator if isinstance(m, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [64, 128, 256, 512, 1]
    assert {(c.kernel_size, c.stride, c.padding) for c in convolutions} == {
        ((4, 4), (2, 2), (1, 1))
    }
    with torch.device("meta"):
        assert ConvDiscriminator(19)(torch.empty(1, 19, 512, 1024)).shape == (1, 1, 16, 32)
    assert isinstance(discriminator[-1], torch.nn.Conv2d)
