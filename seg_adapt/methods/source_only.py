"""No adaptation: cross-entropy on the source. The lower reference of every table."""

from seg_adapt.methods.base import METHODS, Method
from seg_adapt.structures import Losses, SourceBatch, TargetBatch


@METHODS.register("source_only")
class SourceOnly(Method):
    """Trains the segmentor on the labelled source alone."""

    needs_target = False

    def losses(self, source: SourceBatch, target: TargetBatch | None) -> Losses:
        return self.supervised(self.segmentor.outputs(source.images), source.labels)
