"""No adaptation: cross-entropy on the source. The lower reference of every table."""

from seg_adapt.methods.base import METHODS, Method
from seg_adapt.structures import Phase, SourceBatch, TargetBatch


@METHODS.register("source_only")
class SourceOnly(Method):
    """Trains the segmentor on the labeled source alone."""

    needs_target = False

    def phase(self, source: SourceBatch, target: TargetBatch | None) -> Phase:
        outputs = self.segmentor.outputs(source.images)
        return Phase("model", self.supervised(outputs, source.labels))
