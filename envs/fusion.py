"""Run a convolution, its batch-norm and its ReLU as one operation, in a network that is left as it is.

In evaluation mode batch-norm is a scale and a shift of each channel, which go into the convolution's
weights and bias (Jacob et al. 2018, arXiv 1712.05877, section 3.2), and oneDNN applies a ReLU before it
writes a result. So two passes over the feature maps are not made.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
# Inference mode hands these composite operations to a dispatch mode whole.
_CONVOLUTION, _NORM = _aten.conv2d.default, _aten.batch_norm.default
_DEFAULTS: tuple[Any, ...] = ([1, 1], [0, 0], [1, 1], 1)  # of stride, padding, dilation, groups
_RELUS = (_aten.relu.default, _aten.relu_.default)


@dataclass(frozen=True)
class Fusion:
    """What can run as one operation.

    Args:
        convolution: Name of the module.
        norm: Name of the batch-norm, the only reader of the convolution's result.
        relu: Whether a ReLU is the only reader of the batch-norm's result.
    """

    convolution: str
    norm: str
    relu: bool


@torch.inference_mode()
def find_fusions(model: nn.Module, example: Tensor) -> list[Fusion]:
    """Find the convolutions that only a batch-norm reads.

    Args:
        model: In evaluation mode.
        example: A batch. Only on the CPU there is an operation that fuses; else nothing is found.
    """
    if example.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return []
    with _Recording() as run:
        outputs = model(example)
    run.note_readers(None, outputs)
    modules = dict(model.named_modules())
    convolutions = {id(m.weight): name for name, m in modules.items() if isinstance(m, nn.Conv2d)}
    norms = {id(m.running_mean): name for name, m in modules.items() if isinstance(m, _BatchNorm)}
    found = []
    for func, args, result in run.operations:
        if func is not _CONVOLUTION or id(args[1]) not in convolutions or run.only_reader(args[1]) is None:
            continue
        norm = run.only_reader(result)
        if norm is None or norm[0] is not _NORM or norm[1][3] is None or norm[1][5]:
            continue  # the last: it normalises with the batch's own statistics
        relu = run.only_reader(norm[2]) or run.overwriter(norm[2])
        found.append(
            Fusion(convolutions[id(args[1])], norms[id(norm[1][3])], relu is not None and relu[0] in _RELUS)
        )
    return found


class _Recording(TorchDispatchMode):
    """Note every operation, and who reads what; it keeps all results alive, so that ids stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any]] = []  # operation, arguments, result
        self._readers: dict[int, list[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        self.operations.append((func, args, result))
        self.note_readers(self.operations[-1], (args, kwargs))
        return result

    def note_readers(self, reader: Any, values: Any) -> None:
        for value in tree_leaves(values):
            self._readers.setdefault(id(value), []).append(reader)

    def only_reader(self, tensor: Tensor) -> Any:
        """Give the only operation that reads a tensor; None if there are more, or it is an output."""
        readers = self._readers.get(id(tensor), [])
        return readers[0] if len(readers) == 1 else None

    def overwriter(self, tensor: Tensor) -> Any:
        """Give the first operation that reads a tensor if it puts its result there; None if it does not."""
        first = self._readers.get(id(tensor), [None])[0]
        return first if first is not None and first[2] is tensor else None


class Fused(TorchDispatchMode):
    """A mode in which forward passes run fused, with the same results but for rounding.

    Args:
        model: The network that was searched for fusions, or a cut of it, in evaluation mode.
        fusions: What was found.
    """

    def __init__(self, model: nn.Module, fusions: list[Fusion]) -> None:
        super().__init__()
        self._folded: dict[int, tuple[Tensor, Tensor, bool]] = {}
        self._normalised: dict[int, bool] = {}  # by id of a result; rectified, too?
        self._rectified: set[int] = set()
        for fusion in fusions:
            convolution = model.get_submodule(fusion.convolution)
            folded = _fold(convolution, model.get_submodule(fusion.norm))
            self._folded[id(convolution.weight)] = (*folded, fusion.relu)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let a convolution do what follows it, and let that return what it is given."""
        if func is _CONVOLUTION and id(args[1]) in self._folded:
            weight, bias, relu = self._folded[id(args[1])]
            stride, padding, dilation, groups = args[3:] + _DEFAULTS[max(0, len(args) - 3) :]
            result = torch.ops.mkldnn._convolution_pointwise(
                args[0], weight, bias, padding, stride, dilation, groups, "relu" if relu else "none", [], ""
            )
            self._normalised[id(result)] = relu
            return result
        if func is _NORM and id(args[0]) in self._normalised:
            if self._normalised.pop(id(args[0])):
                self._rectified.add(id(args[0]))
            return args[0]
        if func in _RELUS and id(args[0]) in self._rectified:
            self._rectified.remove(id(args[0]))
            return args[0]
        return func(*args, **kwargs or {})


def _fold(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Give the weight and the bias of a convolution with its batch-norm, in the convolution's type."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    if norm.affine:
        scale = scale * norm.weight
    bias = -shift * scale if not norm.affine else norm.bias - shift * scale
    weight = convolution.weight * scale.reshape(-1, 1, 1, 1)
    return weight.to(convolution.weight.dtype), bias.to(convolution.weight.dtype)
