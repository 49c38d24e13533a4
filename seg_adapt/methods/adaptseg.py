"""AdaptSegNet, single level: Tsai et al., "Learning to Adapt Structured Output Space for Semantic
Segmentation", CVPR 2018. Equations are those of the paper's §3 and §4."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from seg_adapt.methods.base import METHODS, Method, parameter_group
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.options import LayerRates
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.discriminators import ConvDiscriminator
from shared.domain_losses import DOMAIN_LOSSES, Domain, domain_accuracy
from shared.options import NonNegativeFloat, Options, PositiveInts


@dataclass(frozen=True)
class AdaptSegOptions(Options, node="ADAPTSEG"):
    loss: Literal["bce", "least_squares"] = "bce"  # Eqs. 1 and 4
    adversarial_weight: NonNegativeFloat = 0.001  # lambda adv of Eq. 5; 0.01 for least squares
    channels: PositiveInts = (64, 128, 256, 512)  # of the discriminator's hidden layers


@METHODS.register("adaptseg")
class AdaptSeg(Method):
    """Makes target predictions look like source predictions to a discriminator of output maps."""

    options_type = AdaptSegOptions

    def build(self, segmentor: Segmentor) -> None:
        self.discriminator = ConvDiscriminator(segmentor.num_classes, self.options.channels)
        self.domain_loss = DOMAIN_LOSSES.get(self.options.loss)
        self.threshold = 0.0 if self.options.loss == "bce" else 0.5

    def groups(self, rates: LayerRates) -> dict[str, list[dict]]:
        return super().groups(rates) | {"discriminator": [parameter_group(self.discriminator)]}

    def steps(self, source: SourceBatch, target: TargetBatch) -> Iterator[Phase]:
        outputs = self.segmentor.outputs(source.images)
        yield Phase("model", self.supervised(outputs, source.labels))
        source_output = self.output_map(outputs.logits.detach(), source)
        del outputs

        target_logits = self.segmentor(target.images)
        target_output = self.output_map(target_logits, target)
        fooled = self.domain_loss(self.discriminator(target_output), Domain.SOURCE)
        weight = self.options.adversarial_weight
        yield Phase("model", {"adversarial": weight * fooled}, target_logits)
        target_output = target_output.detach()
        del target_logits, fooled

        source_logits = self.discriminator(source_output)
        target_logits = self.discriminator(target_output)
        domain_loss = self.domain_loss(source_logits, Domain.SOURCE) + self.domain_loss(
            target_logits, Domain.TARGET
        )
        # Halved as in the released code, so that both of its halves weigh as one loss.
        yield Phase(
            "discriminator",
            {"discriminator": domain_loss / 2},
            records={
                "accuracy/domain": domain_accuracy(source_logits, target_logits, self.threshold)
            },
        )
