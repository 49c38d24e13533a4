"""A GPU to test on where there is none: tensors that say they are on `cuda`, are computed on the
CPU, and mix with the CPU's own only where those of a real GPU do.

Code that makes a tensor without saying where, and mixes it with those of its inputs, fails here as
it would there:

    with pretended_gpu():
        images = torch.rand(2, 3).to("cuda")
        images + torch.arange(3)  # MixedDevicesError
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

CUDA, META = torch.device("cuda", 0), torch.device("meta")
aten = torch.ops.aten
COPIES = {aten.copy_.default, aten._to_copy.default}
# Their indices may be the CPU's.
INDEXED = {
    *(aten.index.Tensor, aten.index_put.default, aten.index_put_.default),
    aten._index_put_impl_.default,
}
FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.asarray}


class MixedDevicesError(RuntimeError):
    pass


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU; PyTorch itself takes it for one on the device `meta`.

    Attributes:
        values: on the CPU.
    """

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "OnGpu":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=META,
            requires_grad=values.requires_grad,
        )

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise MixedDevicesError(f"{func} outside of pretended_gpu()")


class _Names(TorchFunctionMode):
    """In calls from Python, `cuda` is the pretended GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        args = [_renamed(argument) for argument in args]
        kwargs = {name: _renamed(argument) for name, argument in kwargs.items()}
        if func in FROM_PYTHON and kwargs.get("device") == META:
            return func(*args, **kwargs | {"device": "cpu"}).to(META)
        if func is torch.Tensor.cuda:
            return args[0].to(META)
        if func is torch.Tensor.tolist:  # which PyTorch refuses for subclasses
            return _values(args[0]).tolist()
        return func(*args, **kwargs)


def _renamed(argument):
    on_gpu = isinstance(argument, torch.device | str) and str(argument).startswith("cuda")
    return META if on_gpu else argument


class _Operators(TorchDispatchMode):
    """Runs every operator on the CPU and leaves its result where a GPU's would be."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        on_gpu = any(isinstance(t, OnGpu) for t in _tensors(args, kwargs))
        if on_gpu:
            _check(func, args, kwargs)
        replaced = {}
        if kwargs.get("device") is not None:
            on_gpu, replaced = kwargs["device"] == META, {"device": torch.device("cpu")}
        out = func(*_values(list(args)), **_values(kwargs) | replaced)
        return return_and_correct_aliasing(func, args, kwargs, _placed(out)) if on_gpu else out


def _tensors(args, kwargs):
    for argument in (*args, *kwargs.values()):
        for each in argument if isinstance(argument, list | tuple) else [argument]:
            if isinstance(each, torch.Tensor):
                yield each


def _values(argument):
    if isinstance(argument, dict):
        return {name: _values(each) for name, each in argument.items()}
    if isinstance(argument, list | tuple):
        return type(argument)(_values(each) for each in argument)
    return argument.values if isinstance(argument, OnGpu) else argument


def _placed(out):
    if isinstance(out, list | tuple):
        return type(out)(_placed(each) for each in out)
    return OnGpu(out) if isinstance(out, torch.Tensor) else out


def _check(func, args, kwargs):
    """MixedDevicesError for a tensor of the CPU among those of the GPU."""
    if func in COPIES:
        return
    if func in INDEXED and isinstance(args[0], OnGpu):
        args = [args[0], *args[2:]]
    for tensor in _tensors(args, kwargs):
        # Single numbers may come from the CPU where an operator goes element by element.
        number = tensor.dim() == 0 and torch.Tag.pointwise in func.tags
        if not isinstance(tensor, OnGpu) and not number:
            raise MixedDevicesError(
                f"{func} mixes tensors of the GPU with one of the CPU, {tuple(tensor.shape)}"
            )


@contextmanager
def pretended_gpu() -> Iterator[None]:
    with ExitStack() as stack:
        # A mode is off while it handles a call: functions that are written in Python, backward
        # passes among them, must not be handed to it, but what they call.
        for module in (torch.autograd, torch.functional, torch.nn.functional, torch._tensor):
            for name in vars(module):
                if name.startswith("has_torch_function"):
                    stack.enter_context(patch.object(module, name, lambda *tensors: False))
        stack.enter_context(_Names())
        stack.enter_context(_Operators())
        yield
