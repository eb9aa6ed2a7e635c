"""Builds a bundle's model only after checking that the header of the weights fits it.

A config can name any widths and depths. So the model is first built without memory (torch's ``meta`` device) while its
parameters are counted. Its tensors are compared with the header of the weights file, whose sizes agree with the file
itself. Only then is the model built with memory.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from fishnet.backbone.weights import mismatches
from fishnet.errors import InputError, first_line
from fishnet.files.tensors import TensorHeader
from fishnet.tasks.model import Model

_MAX_PRUNED = 2_000  # maximum number of parameters that a task builds and then prunes; no network has as many
_RANDOM_INITS = {Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
_MAX_BUFFERS = 1 << 30  # maximum bytes of buffers that a network computes itself and no file holds


def build_checked(build: Callable[[], Model], header: Mapping[str, TensorHeader]) -> Model:
    """Builds a model that has the tensors of a header. Their values are not set.

    Args:
        build: builds the model; called twice.
        header: the header of the weights file, see :class:`~fishnet.files.tensors.TensorFile`.

    Raises:
        InputError: the config builds no model, or a model with other tensors.
    """
    with torch.device("meta"), _limit_parameters(2 * len(header) + _MAX_PRUNED):
        outline = _build(build)
    _compare(outline, header)
    with _SkipRandomInit():
        return _build(build)


def _build(build: Callable[[], Model]) -> Model:
    try:
        return build()
    except (InputError, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:  # networks raise errors of any kind for numbers that they do not support
        raise InputError(f"its config builds no network ({type(error).__name__}: {first_line(error)})") from error


def _compare(model: Model, header: Mapping[str, TensorHeader]) -> None:
    model_state = model.state_dict()
    if problems := mismatches(model_state, header):
        raise InputError(f"the weights are not those of its config: {'; '.join(problems)}")
    for name, tensor in model_state.items():
        if name in header and tensor.is_floating_point() != header[name].is_float:
            raise InputError(f"the weights are not those of its config: {name} is of type {header[name].dtype}")
    buffers = sum(
        value.numel() * value.element_size() for name, value in model.named_buffers() if name not in model_state
    )
    if buffers > _MAX_BUFFERS:
        raise InputError(f"its config builds a network with buffers of {buffers:,} bytes beside its weights")


@contextmanager
def _limit_parameters(limit: int) -> Iterator[None]:
    """Raises InputError as soon as this thread builds more than ``limit`` parameters."""
    this_thread, count = threading.get_ident(), 0

    def count_parameter(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        if threading.get_ident() != this_thread:
            return
        count += 1
        if count > limit:
            raise InputError(f"its config builds a network of more than {limit:,} parameters: its weights have fewer")

    hook = register_module_parameter_registration_hook(count_parameter)
    try:
        yield
    finally:
        hook.remove()


class _SkipRandomInit(TorchFunctionMode):
    """Skips random initialisation: the weights replace all these values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Returns the tensor unchanged instead of filling it at random."""
        if func in _RANDOM_INITS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
