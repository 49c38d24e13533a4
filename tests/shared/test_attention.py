import math

import torch

from shared.attention import discriminator_attention


def test_discriminator_attention_against_the_equation():
    torch.manual_seed(0)
    features = torch.randn(2, 3, 4, 5).double()
    logits = 3 * torch.randn(2, 1, 4, 5).double()
    attended, attention = discriminator_attention(features, logits)
    assert attention.shape == (2, 1, 4, 5)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                alpha = abs(math.tanh(logits[n, 0, i, j]))
                assert abs(attention[n, 0, i, j] - alpha) < 1e-15
                for c in range(3):
                    f = features[n, c, i, j].item()
                    assert abs(attended[n, c, i, j] - (f + f * alpha)) < 1e-14


def test_discriminator_attention_of_a_hidden_domain_leaves_the_features():
    features = torch.randn(1, 3, 2, 2)
    attended, attention = discriminator_attention(features, torch.zeros(1, 1, 2, 2))
    assert torch.equal(attended, features) and not attention.any()


def test_gradient_reaches_the_features_through_the_discriminator_too():
    """d f′/d f = 1 + α + f α′: with the last term, which a detached attention would lack."""
    features = torch.tensor([[[[0.8]], [[-1.5]]]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.7, -0.4], dtype=torch.float64)

    def attend(f):
        return discriminator_attention(f, (f * weight[:, None, None]).sum(1, keepdim=True))[0]

    assert torch.autograd.gradcheck(attend, features)
    gradient = torch.autograd.grad(attend(features)[0, 0, 0, 0], features)[0][0, :, 0, 0]
    score = 0.8 * 0.7 + 1.5 * 0.4
    slope = 1 - math.tanh(score) ** 2
    assert abs(gradient[0] - (1 + math.tanh(score) + 0.8 * slope * 0.7)) < 1e-12
    assert abs(gradient[1] - 0.8 * slope * -0.4) < 1e-12
