"""The two-domain loop: phases of a method, micro-batches, one optimizer step per group."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode

from seg_adapt.engine.optimizers import build_optimizers, rate_factor, set_rates
from seg_adapt.engine.stages import Kind, StagePlan, plan_stages
from seg_adapt.methods.base import Method
from seg_adapt.options import LayerRates
from seg_adapt.structures import Phase, SourceBatch, TargetBatch
from shared import distributed, gradients
from shared.errors import UserError
from shared.precision import MixedPrecision

MicroBatch = tuple[int, SourceBatch, TargetBatch | None]


class Trainer:
    """Trains a method stage by stage.

    Every phase is back-propagated into its own group's parameters only. Micro-batches advance in
    lock-step, phase by phase; their gradients are averaged, over processes too, and each group
    that had a phase is stepped once at the end of the iteration.

    Args:
        method: on its device.
        cfg: of the run; its seed is that of everything random inside the network (dropout):
            reseeded from (seed, iteration, micro-batch, phase), so neither resuming nor the number
            of processes changes it.
    """

    def __init__(self, method: Method, cfg: CfgNode, *, device: torch.device) -> None:
        self.method = method
        self.seed = cfg.SEED
        self.log_period = max(cfg.LOG_PERIOD, 1)
        self.folder = cfg.OUTPUT_DIR
        self.device = device
        self.amp = MixedPrecision(cfg.SOLVER.AMP, device)
        self.stages = plan_stages(cfg, method)
        self.iteration = 0
        self.enter(0)

    @property
    def stage(self) -> StagePlan:
        return self.stages[self.stage_index]

    @property
    def total(self) -> int:
        """Iterations of all stages."""
        return self.stages[-1].stop

    def enter(self, index: int) -> None:
        """Begins a stage: its optimizers are new, the weights are as they are."""
        self.stage_index = index
        stage = self.stage
        self.method.segmentor.set_bn(stage.bn)
        self.method.enter(stage.method_stage)
        groups = self.method.groups(LayerRates.from_node(stage.solver))
        self.optimizers = build_optimizers(groups, stage.solver)
        self.parameters = {
            name: [p for part in parts for p in part["params"]] for name, parts in groups.items()
        }
        segmentor = self.method.segmentor
        self.balance = gradients.balance_weight(segmentor.stages[segmentor.feature_stage])

    def train(
        self,
        batches: Callable[[StagePlan, int], Iterable[list[MicroBatch]]],
        after_step: Callable[[dict[str, float]], None],
        after_stage: Callable[[StagePlan], None] = lambda stage: None,
    ) -> None:
        """Runs from `self.iteration` to the end of the last stage, or of `batches`.

        Args:
            batches: for a stage and the iteration it is at, one list of micro-batches for each
                iteration that is left of it; what the stage needs is made here.
            after_step: called after each iteration with its logs; `self.iteration` counts it.
            after_stage: called at the end of every stage but the last.
        """
        while True:
            for micro_batches in batches(self.stage, self.iteration):
                logs = self.step(micro_batches)
                self.iteration += 1
                after_step(logs)
            if self.iteration < self.stage.stop or self.iteration == self.total:
                return
            after_stage(self.stage)
            self.enter(self.stage_index + 1)

    def step(self, micro_batches: list[MicroBatch]) -> dict[str, float]:
        """One optimizer step; returns losses, learning rates and the phases' records, means over
        the micro-batches of all processes."""
        self.method.train()
        generators = [(batch, self._steps(*batch[1:])) for batch in micro_batches]
        logs: dict[str, float] = defaultdict(float)
        touched: dict[str, None] = {}
        number = 0
        while group := self._phase(generators, number, logs):
            touched[group] = None
            number += 1
        stage = self.stage
        factor = rate_factor(stage.solver, self.iteration - stage.start, stage.iterations)
        for group in touched:
            distributed.sum_gradients(self.parameters[group])
            optimizer = self.optimizers[group]
            set_rates(optimizer, factor)
            try:
                self.amp.step(optimizer)
            except FloatingPointError as error:
                raise self._not_finite(str(error), group, micro_batches) from error
            optimizer.zero_grad(set_to_none=True)
            logs[f"lr/{group}"] = optimizer.param_groups[0]["lr"]
        self.amp.update()
        distributed.mean_buffers(self.method)
        self.method.after_step(self.iteration + 1)
        return _relative(distributed.mean_scalars(logs))

    def _steps(self, source: SourceBatch, target: TargetBatch | None) -> Iterator[Phase]:
        target = None if target is None else target.to(self.device)
        return self.stage.steps(self.method, source.to(self.device), target)

    def _phase(
        self,
        generators: list[tuple[MicroBatch, Iterator[Phase]]],
        number: int,
        logs: dict[str, float],
    ) -> str | None:
        """Runs phase `number` of every micro-batch; its group, None when all are finished."""
        groups = set()
        for batch, generator in generators:
            self._reseed(batch[0], number)
            with self.amp.autocast():
                phase = next(generator, None)
            if phase is None:
                groups.add(None)
                continue
            groups.add(phase.group)
            values = self._gradients(phase)
            self._backward(phase, batch)
            values |= {f"loss/{name}": loss.item() for name, loss in phase.losses.items()}
            values |= {name: torch.as_tensor(value).item() for name, value in phase.records.items()}
            del phase  # its graph, before the next one is made
            for name, value in values.items():
                logs[name] += value / len(generators)
        if len(groups) != 1:
            raise RuntimeError(
                f"{type(self.method).__name__}.steps yields different groups for different "
                f"micro-batches in phase {number}: {groups}"
            )
        return groups.pop()

    def _gradients(self, phase: Phase) -> dict[str, float]:
        """The norm of each loss's gradient at the end of the backbone, once per log line."""
        logged = (self.iteration + 1) % self.log_period == 0
        if not logged or phase.group != "model" or self.balance is None:
            return {}
        # Scaled, as in training: in fp16 small ones would seem to be none.
        losses = {name: self.amp.scaler.scale(loss) for name, loss in phase.losses.items()}
        found = gradients.norms(losses, self.balance)
        return {f"gradient/{name}": norm for name, norm in found.items()}

    def _backward(self, phase: Phase, batch: MicroBatch) -> None:
        total = sum(phase.losses.values())
        if not torch.isfinite(total):
            values = ", ".join(f"{name} {loss.item():g}" for name, loss in phase.losses.items())
            raise self._not_finite(f"the loss is not finite ({values})", phase.group, [batch])
        if total.requires_grad:
            share = 1.0 / self.stage.solver.ACCUMULATE
            self.amp.backward(total * share, inputs=self.parameters[phase.group])

    def _not_finite(self, what: str, group: str, micro_batches: list[MicroBatch]) -> UserError:
        batches = [batch for _, *pair in micro_batches for batch in pair if batch is not None]
        return gradients.not_finite(
            what,
            self.iteration + 1,
            names=[name for batch in batches for name in batch.names],
            batch={"batches": [asdict(batch) for batch in batches]},
            run=self.folder,
            rate=self._rate_key(group),
        )

    def _rate_key(self, group: str) -> str:
        """The key that sets the group's rate in this stage."""
        if group == "model" and self.stage.kind is not Kind.METHOD:
            return f"{self.stage.kind.name}.LR"
        return f"SOLVER.{group.upper()}.LR"

    def _reseed(self, index: int, phase: int) -> None:
        sequence = np.random.SeedSequence([self.seed, self.iteration, index, phase])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]) % 2**63)

    def state_dict(self) -> dict[str, Any]:
        """Everything training continues from; holds tensors and plain values only."""
        return {
            "iteration": self.iteration,
            "stage": self.stage_index,
            "method": self.method.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "scaler": self.amp.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a `state_dict` of the same method and config."""
        self.iteration = state["iteration"]
        self.enter(state["stage"])
        self.method.load_state_dict(state["method"])
        self.amp.scaler.load_state_dict(state["scaler"])
        for name, optimizer in self.optimizers.items():
            rates = [group["base_lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["base_lr"] = rate  # the config's, which a resumed run may change


def _relative(logs: dict[str, float]) -> dict[str, float]:
    """`gradient/<loss>` as a multiple of that of `seg`; left out where that is 0, or one of them
    has overflowed in fp16."""
    reference = logs.pop("gradient/seg", 0.0)
    related = {}
    for name, value in logs.items():
        if not name.startswith("gradient/"):
            related[name] = value
        elif 0 < reference < math.inf and math.isfinite(value):
            related[name] = value / reference
    return related
