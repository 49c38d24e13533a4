"""torchrun's environment: rank, world size, gradient averaging. One process needs none of it."""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


def init_process_group(device: torch.device) -> None:
    """Joins the process group of `torchrun`, where there is one.

    Gradients travel by NCCL on GPUs, one GPU per process; counts and logs, which live on the CPU,
    by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")


def shut_down() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def local_world_size() -> int:
    """Processes of the run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if world_size() == 1:
        return int(number)
    tensor = torch.tensor(int(number))
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return int(tensor)


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Adds up the gradients of all processes, in place; one collective, whatever was skipped here.

    A loss that is constant on this rank (everything ignored) may not be on another. A parameter
    that has a gradient nowhere keeps none, so that an optimizer skips it as in a single process.
    """
    if world_size() == 1:
        return
    present = torch.tensor([float(p.grad is not None) for p in parameters])
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch.cat([present.to(gradients[0].device), *(g.reshape(-1).float() for g in gradients)])
    dist.all_reduce(flat)
    present, flat = flat[: len(parameters)], flat[len(parameters) :]
    parts = flat.split([p.numel() for p in parameters])
    for parameter, has_gradient, part in zip(parameters, present.tolist(), parts, strict=True):
        if has_gradient:
            parameter.grad = part.view_as(parameter).to(parameter.dtype)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors, which every process gets and gradients flow through."""
    return tensor if world_size() == 1 else _SumOverProcesses.apply(tensor)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return sum_tensor(tensor.clone())

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        # Every process's loss depends on the sum.
        return sum_tensor(gradient.clone())


def mean_buffers(module: nn.Module) -> None:
    """Averages floating-point buffers over processes, in place: BatchNorm's running statistics.

    One process updates them once per micro-batch, one after the other; several update them side
    by side and take the mean. It is the one thing in which two processes differ from one.
    """
    buffers = [b for b in module.buffers() if b.is_floating_point()]
    if world_size() == 1 or not buffers:
        return
    flat = torch.cat([b.reshape(-1).float() for b in buffers])
    dist.all_reduce(flat)
    parts = (flat / world_size()).split([b.numel() for b in buffers])
    for buffer, part in zip(buffers, parts, strict=True):
        buffer.copy_(part.view_as(buffer))


def mean_scalars(values: dict[str, float]) -> dict[str, float]:
    """Mean over processes of each value; keys must agree between processes."""
    if world_size() == 1:
        return values
    packed = torch.tensor([values[key] for key in sorted(values)], dtype=torch.float64)
    dist.all_reduce(packed)
    return dict(zip(sorted(values), (packed / world_size()).tolist(), strict=True))


def sum_tensor(tensor: Tensor) -> Tensor:
    """Sum over processes, in place; for counts such as a confusion matrix."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor
