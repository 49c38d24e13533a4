"""What is trained in which order: the source alone, the method's own stages, self-training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from fvcore.common.config import CfgNode
from torch import Tensor

from seg_adapt.methods.base import Method
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared.errors import UserError


class Kind(Enum):
    """Whose stage it is."""

    SOURCE_STAGE = "source"
    METHOD = "method"
    SELF_TRAINING = "self_training"


@dataclass(frozen=True)
class StagePlan:
    """One stage of a run.

    Args:
        name: unique in the run.
        start, stop: its iterations are [start, stop).
        solver: the `SOLVER` node as it holds in this stage.
        method_stage: what `Method.enter` gets.
        bn: BatchNorm of the backbone, see `Segmentor`.
        quantile, pseudo_weight: of self-training, see `SELF_TRAINING`.
    """

    name: str
    kind: Kind
    start: int
    stop: int
    solver: CfgNode
    method_stage: str
    bn: str
    quantile: float = 0.0
    pseudo_weight: float = 0.0

    @property
    def iterations(self) -> int:
        return self.stop - self.start

    def steps(
        self, method: Method, source: SourceBatch, target: TargetBatch | None
    ) -> Iterator[Phase]:
        """The phases of one iteration in this stage, as `Method.steps` yields them."""
        if self.kind is Kind.SOURCE_STAGE:
            outputs = method.segmentor.outputs(source.images)
            yield Phase("model", method.supervised(outputs, source.labels))
        elif self.kind is Kind.METHOD:
            yield from method.steps(source, target)
        else:
            yield from self._self_training(method, source, target)

    def _self_training(
        self, method: Method, source: SourceBatch, target: TargetBatch
    ) -> Iterator[Phase]:
        """The method's phases; the pseudo-labels join the one that has the target's logits."""
        joined = False
        for phase in method.steps(source, target):
            if phase.target_logits is not None:
                joined = True
                pseudo = self._pseudo_loss(method, phase.target_logits, target)
                phase = replace(phase, losses=phase.losses | {"pseudo": pseudo})
                del pseudo
            yield phase
            del phase  # nothing of a phase's graph may outlive it
        if not joined:
            logits = method.segmentor(target.images)
            yield Phase("model", {"pseudo": self._pseudo_loss(method, logits, target)})

    def _pseudo_loss(self, method: Method, logits: Tensor, target: TargetBatch) -> Tensor:
        return self.pseudo_weight * method.segmentation_loss(logits, target.pseudo_labels)


def plan_stages(cfg: CfgNode, method: Method) -> list[StagePlan]:
    """The stages of a run: `SOURCE_STAGE`, those of the method, `SELF_TRAINING.ROUNDS` rounds."""
    plans: list[StagePlan] = []
    own = method.stages(cfg.SOLVER.MAX_ITER)

    def add(name: str, kind: Kind, iterations: int, solver: CfgNode, **arguments) -> None:
        start = plans[-1].stop if plans else 0
        arguments = {"bn": cfg.MODEL.BN} | arguments
        plans.append(StagePlan(name, kind, start, start + iterations, solver, **arguments))

    if cfg.SOURCE_STAGE.ITERATIONS:
        solver = _solver(cfg.SOLVER, cfg.SOURCE_STAGE)
        first = own[0].name
        add("source", Kind.SOURCE_STAGE, cfg.SOURCE_STAGE.ITERATIONS, solver, method_stage=first)
    for stage in own:
        add(stage.name, Kind.METHOD, stage.iterations, cfg.SOLVER, method_stage=stage.name)
    again = cfg.SELF_TRAINING
    for number in range(again.ROUNDS):
        quantile = again.QUANTILE + number * again.QUANTILE_STEP
        if not 0 < quantile <= 1:
            raise UserError(
                f"SELF_TRAINING.QUANTILE is {quantile:g} in round {number + 1}, expected a share "
                "above 0 and at most 1: change it or SELF_TRAINING.QUANTILE_STEP"
            )
        add(
            f"self_training_{number + 1}",
            Kind.SELF_TRAINING,
            again.ITERATIONS,
            _solver(cfg.SOLVER, again),
            method_stage=own[-1].name,
            bn=again.BN or cfg.MODEL.BN,
            quantile=quantile,
            pseudo_weight=again.WEIGHT,
        )
    return plans


def _solver(solver: CfgNode, stage: CfgNode) -> CfgNode:
    """`SOLVER` with what a stage's own node changes of it."""
    solver = solver.clone()
    solver.defrost()
    solver.MODEL.TYPE = stage.TYPE or solver.MODEL.TYPE
    solver.MODEL.LR = stage.LR or solver.MODEL.LR
    if stage.WEIGHT_DECAY >= 0:
        solver.MODEL.WEIGHT_DECAY = stage.WEIGHT_DECAY
    solver.BACKBONE_LR_MULT = stage.BACKBONE_LR_MULT or solver.BACKBONE_LR_MULT
    solver.HEAD_LR_MULT = stage.HEAD_LR_MULT or solver.HEAD_LR_MULT
    solver.SCHEDULE = stage.SCHEDULE or solver.SCHEDULE
    # Steps count from the beginning of each stage.
    solver.HORIZON, solver.STEPS = stage.HORIZON, stage.STEPS
    solver.WARMUP = stage.WARMUP
    solver.freeze()
    return solver
