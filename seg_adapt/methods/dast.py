"""DAST: Yu et al., "DAST: Unsupervised Domain Adaptation in Semantic Segmentation Based on
Discriminator Attention and Self-Training", AAAI 2021. The paper numbers no equation; they are named
by their symbols. This is its adaptation stage; its self-training is the engine's
(`SELF_TRAINING`)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from seg_adapt.methods.base import METHODS, Method, parameter_group
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.attention import discriminator_attention
from shared.discriminators import ConvDiscriminator
from shared.domain_losses import Domain, domain_accuracy, domain_least_squares
from shared.options import NonNegativeFloat, Options, PositiveInts
from shared.pictures import heat_map

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DastOptions(Options, node="DAST"):
    discoverer_weight: NonNegativeFloat = 0.01  # lambda d
    corrector_weight: NonNegativeFloat = 0.01  # lambda c
    attention: bool = True  # False: two discriminators without it, "2D" of Table 3
    reweight_corrector: bool = False  # weigh the corrector's adversarial loss by attention
    d_channels: PositiveInts = (256, 128, 64)  # of the discoverer's hidden layers
    c_channels: PositiveInts = (64, 128, 256, 512)  # of the corrector's hidden layers


@METHODS.register("dast")
class Dast(Method):
    """Discriminator attention: the discoverer D aligns features and says where they differ still,
    the corrector C aligns the predictions made from the features so weighted."""

    options_type = DastOptions

    def build(self, segmentor: Segmentor) -> None:
        self.cut = attention_cut(segmentor)
        logger.info("DAST: attention after '%s'", self.cut)
        self.discoverer = ConvDiscriminator(
            segmentor.channels_at(self.cut),
            self.options.d_channels,
            kernel=3,
            stride=1,
            padding=1,
        )
        self.corrector = ConvDiscriminator(segmentor.num_classes, self.options.c_channels)

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        discriminators = parameter_group(self.discoverer, self.corrector)
        return super().groups(rates) | {"discriminator": [discriminators]}

    def steps(self, source: SourceBatch, target: TargetBatch) -> Iterator[Phase]:
        outputs = self.segmentor.outputs(source.images, self.cut)
        yield Phase("model", self.supervised(outputs, source.labels))
        source_features = outputs.features.detach()
        source_output = self.output_map(outputs.logits.detach(), source)
        del outputs

        features, predict = self.segmentor.split(target.images, self.cut)
        discovered = self.discoverer(features)
        attended, attention = discriminator_attention(features, discovered)
        if not self.options.attention:
            attended = features
        target_logits = predict(attended)
        target_output = self.output_map(target_logits, target)
        corrected = self.corrector(target_output)
        weights = attention.detach() if self.options.reweight_corrector else None
        fool_discoverer = domain_least_squares(discovered, Domain.SOURCE)
        losses = {
            "fool_discoverer": self.options.discoverer_weight * fool_discoverer,
            "fool_corrector": self.options.corrector_weight * corrector_loss(corrected, weights),
        }
        records = {"attention/mean": attention.detach().mean()}
        yield Phase("model", losses, target_logits, records)
        target_features, target_output = features.detach(), target_output.detach()
        del features, discovered, attended, attention, target_logits, corrected, fool_discoverer
        del losses, predict

        losses, records = {}, {}
        # The discriminators' side of L_adv^D and L_adv^C; not halved, as in the released code.
        for name, source_map, target_map in (
            ("discoverer", source_features, target_features),
            ("corrector", source_output, target_output),
        ):
            discriminator = self.get_submodule(name)
            on_source, on_target = discriminator(source_map), discriminator(target_map)
            losses[name] = domain_least_squares(on_source, Domain.SOURCE) + domain_least_squares(
                on_target, Domain.TARGET
            )
            records[f"accuracy/{name}"] = domain_accuracy(on_source, on_target, 0.5)
        yield Phase("discriminator", losses, records=records)

    def predict(self, images: Tensor) -> Tensor:
        """Logits with the attention, which the label predictor was trained with on the target."""
        features, predict = self.segmentor.split(images, self.cut)
        if self.options.attention:
            features, _ = discriminator_attention(features, self.discoverer(features))
        return predict(features)

    def columns(self, images: Tensor) -> dict[str, list[np.ndarray]]:
        """Fig. 3 (b): the attention α.

        The colors span each image's 20th to 99th percentile: the discoverer's padding lowers α
        along the border, which would otherwise take up the whole scale.
        """
        features = self.segmentor.run(images, until=self.cut)
        _, attention = discriminator_attention(features, self.discoverer(features))
        attention = self.segmentor.upsample(attention.float(), tuple(images.shape[-2:]))
        maps = attention[:, 0].cpu().numpy()
        return {"attention": [heat_map(alpha, *np.percentile(alpha, (20, 99))) for alpha in maps]}


def attention_cut(segmentor: Segmentor) -> str:
    """Where E ends: before the deepest pre-trained stage's last block (ResNet), or after that stage
    where it has no blocks (VGG-16: conv5_3)."""
    stage = segmentor.feature_stage
    blocks = [name for name in segmentor.cuts if name.startswith(f"{stage}.")]
    return blocks[-2] if len(blocks) > 1 else stage


def corrector_loss(logits: Tensor, attention: Tensor | None = None) -> Tensor:
    """L_adv^C(E, P): mean of (C(p_t) − 0)², or of α (C(p_t) − 0)² as the paper's text has it.

    Args:
        logits: C(p_t), (N, 1, h, w).
        attention: α at the features' resolution, (N, 1, H, W); averaged over each cell of `logits`.
    """
    if attention is None:
        return domain_least_squares(logits, Domain.SOURCE)
    weights = F.interpolate(attention.float(), logits.shape[-2:], mode="area")
    return (weights * (logits.float() - Domain.SOURCE).square()).mean()
