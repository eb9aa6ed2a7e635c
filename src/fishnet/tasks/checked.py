"""A model for a bundle's weights, built only after the weights' header was seen to fit it.

A config can name any widths and depths. So the model is first built without memory (torch's ``meta`` device), while the
number of its parts is counted; its tensors are compared with the header of the weights file, whose sizes are those of
the file itself; and only then it is built with memory.
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

_SPARE = 2_000  # parameters of layers that a task prunes after they were built: more than any network has
_DRAWS = {Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}
_BUFFERS = 1 << 30  # bytes of tables that a network makes itself and no file holds


def build_checked(build: Callable[[], Model], header: Mapping[str, TensorHeader]) -> Model:
    """Builds a model that has the tensors of a header, its values not yet set.

    Args:
        build: builds it; called twice.
        header: of the weights file; see :func:`~fishnet.files.tensors.read_header`.

    Raises:
        InputError: the config builds no model, or one with other tensors.
    """
    with torch.device("meta"), _at_most(2 * len(header) + _SPARE):
        outline = _built(build)
    _compare(outline, header)
    with _NoDraws():
        return _built(build)


def _built(build: Callable[[], Model]) -> Model:
    try:
        return build()
    except (InputError, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:  # of networks given numbers that they cannot have: of every kind
        raise InputError(f"its config builds no network ({type(error).__name__}: {first_line(error)})") from error


def _compare(model: Model, header: Mapping[str, TensorHeader]) -> None:
    own = model.state_dict()
    if problems := mismatches(own, header):
        raise InputError(f"the weights are not those of its config: {'; '.join(problems)}")
    for name, tensor in own.items():
        if name in header and tensor.is_floating_point() != header[name].is_float:
            raise InputError(f"the weights are not those of its config: {name} is of type {header[name].dtype}")
    tables = sum(value.numel() * value.element_size() for name, value in model.named_buffers() if name not in own)
    if tables > _BUFFERS:
        raise InputError(f"its config builds a network with tables of {tables:,} bytes beside its weights")


@contextmanager
def _at_most(parameters: int) -> Iterator[None]:
    """Stops a network that grows beyond so many parameters while this thread builds it."""
    own, count = threading.get_ident(), 0

    def step(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal count
        if threading.get_ident() != own:
            return
        count += 1
        if count > parameters:
            raise InputError(f"its config builds a network of more than {parameters:,} parameters: not its weights'")

    hook = register_module_parameter_registration_hook(step)
    try:
        yield
    finally:
        hook.remove()


class _NoDraws(TorchFunctionMode):
    """Leaves out the drawing of random values, all of which the weights replace."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Gives the tensor as it is where it would be filled at random."""
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
