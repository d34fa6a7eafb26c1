"""Tasks from a user's tensors or data loaders, loss and metric.

Shapes: B examples of a batch, N examples of a split, D numbers to predict, K labels or classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..io.memory import is_out_of_memory, require_memory
from .base import SplitName
from .metrics import Average, Metric
from .optional_members import distillation_loss, no_smoothing

Pair = tuple[Tensor, Tensor]
_SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
_REMEDY = "give fewer or smaller examples, or a machine with more memory"


class TensorTask:
    """Hold inputs and targets in memory.

    Integer targets of shape (N,) are class indices. All others are numbers or labels; (N,) then becomes (N,
    1), the shape of networks' outputs.

    Args:
        train: Inputs (N, ...) and targets (N, ...). Inputs of type uint8 are pixels and are scaled to [0, 1].
        val: The same for measuring candidates, disjoint from ``train``.
        test: The same for the report, disjoint from both.
        loss: Function from outputs and targets of a batch to its mean loss, such as ``F.mse_loss``.
        metric: :class:`.metrics.R2`, :class:`.metrics.MacroF1`, :class:`.metrics.Accuracy`, the user's own
            :class:`.metrics.Metric`, or a function from outputs and targets to a score in percent, higher is
            better, that is averaged over examples.
        name: Name of the task for logs and reports.
        num_outputs: Outputs of a network; by default the number of classes, or of columns of the targets.
        augment: Function from one training input to an augmented one; it uses torch's global generator.
        distillation: Function from outputs of student and teacher and a temperature to a loss; by default
            Hinton's for classes, else the mean squared error.
        training_loss: Function from the network in training mode, inputs and targets to the loss of a step;
            see :class:`.base.Task`.
        largest_batch: Largest number of examples in one pass, at least 1.
        notes: Sentences for the report.

    Raises:
        TypeError: If a split is not a pair of tensors, or the loss or the metric cannot be called.
        ValueError: If shapes of splits do not match.
    """

    def __init__(
        self,
        *,
        train: Pair,
        val: Pair,
        test: Pair,
        loss: Callable[[Tensor, Tensor], Tensor],
        metric: Metric | Callable[[Tensor, Tensor], Any],
        name: str = "own data",
        num_outputs: int | None = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        distillation: Callable[[Tensor, Tensor, float], Tensor] | None = None,
        training_loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
        largest_batch: int = 512,
        notes: tuple[str, ...] = (),
    ) -> None:
        given: Mapping[SplitName, Any] = {"train": train, "val": val, "test": test}
        self._splits = {split: _check_split(split, pair) for split, pair in given.items()}
        shapes = {tuple(inputs.shape[1:]) for inputs, _ in self._splits.values()}
        answers = {(tuple(t.shape[1:]), t.is_floating_point()) for _, t in self._splits.values()}
        if len(shapes) > 1 or len(answers) > 1:
            what, found = ("inputs", shapes) if len(shapes) > 1 else ("targets", {a[0] for a in answers})
            raise ValueError(
                f"train, val and test have {what} of different shapes or types: {sorted(found)}; "
                "give all in one shape and type"
            )
        if not callable(loss):
            raise TypeError(
                f"the loss is a {type(loss).__name__}; give a function of outputs and targets, "
                "such as torch.nn.functional.mse_loss"
            )
        if isinstance(metric, type) or not (isinstance(metric, Metric) or callable(metric)):
            what = f"the class {metric.__name__}" if isinstance(metric, type) else type(metric).__name__
            raise TypeError(f"the metric is {what}; give R2(), MacroF1(), Accuracy() or a function")
        self.name = name
        self.notes = notes
        self.largest_batch = largest_batch
        self._loss, self._augment, self._distillation = loss, augment, distillation
        if training_loss is not None:  # else that of a subclass
            self.training_loss = training_loss
        self._metric: Metric = metric if isinstance(metric, Metric) else Average(metric)
        self.metric_name = self._metric.name
        self.num_outputs = num_outputs or self._count_outputs()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self._splits["train"][0].shape[1:])

    def size(self, split: SplitName) -> int:
        """Return the number of examples of a split."""
        return len(self._splits[split][0])

    def to(self, device: torch.device | str) -> Self:
        """Return the same task with its data on a device."""
        moved = copy.copy(self)
        moved._splits = {name: (x.to(device), y.to(device)) for name, (x, y) in self._splits.items()}
        return moved

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Pair:
        """Return float32 inputs (B, ...) and targets (B, ...); see :class:`.base.Task`."""
        inputs, targets = self._splits[split]
        indices = indices.to(inputs.device)
        chosen = inputs[indices]
        chosen = chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen.float()
        if augment and self._augment is not None:
            with torch.random.fork_rng(enabled=generator is not None):
                if generator is not None:  # users' augmentation draws from torch's global generator
                    torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
                chosen = torch.stack([self._augment(example) for example in chosen])
        return chosen, targets[indices]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        return self._loss(*self._copies(outputs, targets))

    def smoothed_loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        """Return the mean loss of a batch with label smoothing, if it is ``F.cross_entropy``.

        Raises:
            ValueError: If it is another loss.
        """
        if self._loss is not F.cross_entropy:
            raise ValueError(no_smoothing(self.name))
        return F.cross_entropy(*self._copies(outputs, targets), label_smoothing=label_smoothing)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the metric's statistics of a batch."""
        return self._metric.statistics(*self._copies(outputs, targets))

    def metric(self, statistics: Tensor) -> float:
        """Compute the metric from summed statistics, percent."""
        return self._metric.value(statistics)

    def details(self, statistics: Tensor) -> Mapping[str, float | None]:
        """Return the metric of each class or output, percent."""
        return self._metric.details(statistics)

    def distillation(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Compute the distillation loss."""
        if self._distillation is not None:
            return self._distillation(student.clone(), teacher.clone(), temperature)
        if self._classes:
            return distillation_loss(student, teacher, temperature)
        return F.mse_loss(student, teacher)

    @property
    def _classes(self) -> bool:
        targets = self._splits["train"][1]
        return targets.dim() == 1 and targets.dtype == torch.int64

    def _count_outputs(self) -> int:
        if self._classes:
            return int(max(targets.max() for _, targets in self._splits.values())) + 1
        return int(self._splits["train"][1].shape[1])

    def _copies(self, outputs: Tensor, targets: Tensor) -> Pair:
        """Return copies in matching shapes, as users' functions may edit them in place."""
        return outputs.clone(), self._match_shape(outputs, targets).clone()

    def _match_shape(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Match the targets' shape to the outputs'; else (B, 1) and (B,) broadcast to a loss of (B, B)."""
        expected = (len(targets), self.num_outputs) if self._classes else tuple(targets.shape)
        if outputs.shape == expected:
            return targets
        if not self._classes and outputs.numel() == targets.numel():
            return targets.reshape(outputs.shape)
        raise ValueError(
            f"{self.name} expects outputs of the shape {expected[1:]} per example, the network returns "
            f"{tuple(outputs.shape[1:])}: give a network with {self.num_outputs} outputs, or num_outputs"
        )


class LoaderTask(TensorTask):
    """Read data loaders once into memory.

    The loader of training data must not augment, as each example is read only once; give ``augment`` instead.

    Args:
        train: Iterable of batches of inputs and targets, such as a ``torch.utils.data.DataLoader``.
        val: The same for val.
        test: The same for test.
        **settings: As for :class:`TensorTask`.

    Raises:
        TypeError: If a loader does not give pairs of tensors.
        ValueError: If a loader gives no batch or more than fits into memory, or its batches differ in shape.
    """

    def __init__(
        self, *, train: Iterable[Any], val: Iterable[Any], test: Iterable[Any], **settings: Any
    ) -> None:
        super().__init__(
            train=_read("train", train), val=_read("val", val), test=_read("test", test), **settings
        )


def _check_split(split: str, pair: Any) -> Pair:
    """Check a split, and add a second axis to targets that are numbers."""
    if not _is_pair(pair):
        raise TypeError(f"{split} is {_described(pair)}; give a pair of tensors: inputs and targets")
    inputs, targets = pair
    if inputs.dim() < 2 or targets.dim() < 1 or len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"{split} has inputs of {tuple(inputs.shape)} and targets of {tuple(targets.shape)}; "
            "give as many targets as inputs, at least one, one per row"
        )
    if targets.dim() == 1:
        numbers = targets.is_floating_point() or targets.dtype == torch.bool
        targets = targets[:, None] if numbers else targets.long()
    return inputs.detach(), targets.detach()


def _read(split: str, loader: Any) -> Pair:
    """Read all batches of a loader."""
    expected = _length(loader)
    copies = 1 if isinstance(loader, Sequence) else 2  # the joined tensor; the batches unless already there
    read: list[Pair] = []
    read_bytes = 0
    for k, batch in enumerate(_iterated(split, loader)):
        if not _is_pair(batch):
            raise TypeError(
                f"the loader of {split} returns {_described(batch)} as batch {k}; "
                "it has to return pairs of tensors: inputs and targets"
            )
        read.append(batch)
        read_bytes += sum(part.nbytes for part in batch)
        if expected is None:
            require_memory(read_bytes, f"the first {k + 1:,} batches of {split}, to be joined,", _REMEDY)
        elif k == 0:
            require_memory(copies * expected * read_bytes, f"the {expected:,} batches of {split}", _REMEDY)
    if not read:
        raise ValueError(f"the loader of {split} returns nothing; give one with at least one batch")
    try:
        inputs, targets = (torch.cat(parts) for parts in zip(*read, strict=True))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        shapes = sorted({tuple(x.shape[1:]) for batch in read for x in batch})
        raise ValueError(
            f"the batches of {split} differ in shape ({shapes}); let the loader return inputs of one shape"
        ) from error
    return inputs, targets


def _iterated(split: str, loader: Any) -> Iterator[Any]:
    try:
        yield from loader
    except TypeError as error:
        raise TypeError(f"{split} cannot be read ({error}); give a torch.utils.data.DataLoader") from error


def _length(loader: Any) -> int | None:
    """Return the number of batches; None if it is unknown, as for a stream."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def _is_pair(thing: Any) -> bool:
    pair = isinstance(thing, (tuple, list)) and len(thing) == 2
    return pair and all(isinstance(part, Tensor) for part in thing)


def _described(thing: Any) -> str:
    if isinstance(thing, (tuple, list)):
        return f"a {type(thing).__name__} of {len(thing)} ({', '.join(type(x).__name__ for x in thing[:3])})"
    return f"a {type(thing).__name__}"
