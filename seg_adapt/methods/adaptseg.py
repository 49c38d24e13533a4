"""AdaptSegNet, single level: Tsai et al., "Learning to Adapt Structured Output Space for Semantic
Segmentation", CVPR 2018. Equations are those of the paper's §3 and §4."""

from collections.abc import Iterator, Sequence

from fvcore.common.config import CfgNode

from seg_adapt.methods.base import METHODS, Method, ModelOptions
from seg_adapt.models.segmentor import Segmentor
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.discriminators import ConvDiscriminator
from shared.domain_losses import DOMAIN_LOSSES, Domain, domain_accuracy


@METHODS.register("adaptseg")
class AdaptSeg(Method):
    """Makes target predictions look like source predictions to a discriminator of output maps.

    Args:
        adversarial_weight: λ_adv of Eq. 5.
        loss: 'bce' (Eqs. 1 and 4) or 'least_squares'.
        channels: of the discriminator's hidden layers.
    """

    def __init__(
        self,
        segmentor: Segmentor,
        options: ModelOptions | None = None,
        *,
        adversarial_weight: float = 0.001,
        loss: str = "bce",
        channels: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__(segmentor, options)
        self.discriminator = ConvDiscriminator(segmentor.num_classes, channels)
        self.adversarial_weight = adversarial_weight
        self.domain_loss = DOMAIN_LOSSES.get(loss)
        self.threshold = 0.0 if loss == "bce" else 0.5

    @classmethod
    def add_keys(cls, cfg: CfgNode) -> None:
        cfg.ADAPTSEG = CfgNode()
        cfg.ADAPTSEG.LOSS = "bce"  # bce | least_squares
        cfg.ADAPTSEG.ADVERSARIAL_WEIGHT = 0.001  # lambda adv; 0.01 for least squares
        cfg.ADAPTSEG.CHANNELS = [64, 128, 256, 512]  # of the discriminator's hidden layers

    @classmethod
    def from_config(cls, cfg: CfgNode, segmentor: Segmentor) -> "AdaptSeg":
        return cls(
            segmentor,
            ModelOptions.from_config(cfg),
            adversarial_weight=cfg.ADAPTSEG.ADVERSARIAL_WEIGHT,
            loss=cfg.ADAPTSEG.LOSS,
            channels=cfg.ADAPTSEG.CHANNELS,
        )

    def groups(self) -> dict[str, list[dict]]:
        discriminators = self.new_groups([self.discriminator], lr_mult=1.0)
        return {"model": self.segmentor_groups(), "discriminator": discriminators}

    def steps(self, source: SourceBatch, target: TargetBatch) -> Iterator[Phase]:
        outputs = self.segmentor.outputs(source.images)
        yield Phase("model", self.supervised(outputs, source.labels))
        source_output = self.output_map(outputs.logits.detach(), source)
        del outputs

        target_logits = self.segmentor(target.images)
        target_output = self.output_map(target_logits, target)
        fooled = self.domain_loss(self.discriminator(target_output), Domain.SOURCE)
        yield Phase("model", {"adversarial": self.adversarial_weight * fooled}, target_logits)
        target_output = target_output.detach()
        del target_logits, fooled

        source_logits = self.discriminator(source_output)
        target_logits = self.discriminator(target_output)
        told_apart = self.domain_loss(source_logits, Domain.SOURCE) + self.domain_loss(
            target_logits, Domain.TARGET
        )
        # Halved as in the released code, so that both of its halves weigh as one loss.
        yield Phase(
            "discriminator",
            {"discriminator": told_apart / 2},
            records={
                "accuracy/domain": domain_accuracy(source_logits, target_logits, self.threshold)
            },
        )
