"""The task of a user's examples, loss and metric, wherever the examples come from.

Shapes: B examples of a batch, N examples of a split, D numbers to predict, K labels or classes, H and W
pixels.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...io.suggestions import did_you_mean
from ...io.wording import counted
from ...modules.randomness import fixed_randomness
from ..base import SplitName
from ..draws import derived_seed
from ..ignored_labels import count_classes
from ..metrics import Average, Metric
from ..optional_members import distillation_loss, no_smoothing
from ..passes import Pass, spread
from .example_sources import JoinedSource, Reading, Source, TensorSource
from .examples import Pair

_LOOKED_AT = 256
"""Number of examples of each split that are read to see how many classes there are."""


class SourceTask:
    """Prune on examples of a user's sources.

    Whole numbers as targets are classes: one of each example, or one of each pixel of a mask. All others are
    numbers or labels; (N,) then becomes (N, 1), the shape of networks' outputs.

    Args:
        sources: Train, val and test.
        loss: Function from outputs and targets of a batch to its mean loss, such as ``F.mse_loss``.
        metric: :class:`.metrics.R2`, :class:`.metrics.MacroF1`, :class:`.metrics.Accuracy`,
            :class:`.metrics.MeanIoU`, the user's own :class:`.metrics.Metric`, or a function from outputs and
            targets to a score in percent, higher is better, that is averaged over examples.
        name: Name of the task for logs and reports.
        num_outputs: Outputs of a network; by default the number of classes, or of columns of the targets.
        augment: Function from one training input to an augmented one, float32 on the task's device; it uses
            the global generators.
        distillation: Function from outputs of student and teacher and a temperature to a loss; by default
            Hinton's for classes, else the mean squared error.
        training_loss: Function from the network in training mode, inputs and targets to the loss of a step;
            see :class:`.base.Task`.
        largest_batch: Largest number of examples in one pass, at least 1.
        notes: Sentences for the report.

    Raises:
        TypeError: If the loss or the metric cannot be called.
        ValueError: If shapes of splits do not match.
    """

    def __init__(
        self,
        sources: Mapping[SplitName, Source],
        *,
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
        self._sources = dict(sources)
        self._val_for_training: Source | None = None
        _check_shapes({split: source.example for split, source in sources.items()})
        if isinstance(loss, type) or not callable(loss):
            raise TypeError(
                f"the loss is {_kind_of(loss)}; give a function of outputs and targets, such as "
                "torch.nn.functional.mse_loss, or torch.nn.MSELoss()"
            )
        if isinstance(metric, type) or not (isinstance(metric, Metric) or callable(metric)):
            raise TypeError(
                f"the metric is {_kind_of(metric)}; give R2(), MacroF1(), Accuracy(), MeanIoU() or a function"
            )
        self.name = name
        self.notes = notes
        self.largest_batch = largest_batch
        self._device: torch.device | str | None = None
        self._loss, self._augment, self._distillation = loss, augment, distillation
        if training_loss is not None:  # else that of a subclass
            self.training_loss = training_loss
        self._metric: Metric = metric if isinstance(metric, Metric) else Average(metric)
        self.metric_name = self._metric.name
        self.num_outputs = num_outputs or self._count_outputs()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self._sources["train"].example[0].shape)

    def size(self, split: SplitName) -> int:
        """Return the number of examples of a split."""
        return len(self._sources[split])

    def to(self, device: torch.device | str) -> Self:
        """Return the same task with its data, or at least its batches, on a device."""
        moved = copy.copy(self)
        moved._sources = {split: source.to(device) for split, source in self._sources.items()}
        moved._device = device
        return moved

    def with_val_in_train(self) -> Self:
        """Return the same task whose train has the examples of val, too; val stays as it is."""
        whole = copy.copy(self)
        train, val = self._sources["train"], self._val_for_training or self._sources["val"]
        whole._sources = {**self._sources, "train": JoinedSource(train, val)}
        return whole

    def all_targets(self, split: SplitName) -> Tensor | None:
        """Return all targets of a split as they are held, (N, ...); None if that takes reading the inputs."""
        return self._sources[split].targets()

    def all_inputs(self, split: SplitName) -> Tensor | None:
        """Return all inputs of a split as they are held in memory, (N, ...); None if they are read."""
        source = self._sources[split]
        return source.inputs if isinstance(source, TensorSource) else None

    def batch(
        self,
        split: SplitName,
        indices: Tensor,
        *,
        augment: bool = False,
        generator: torch.Generator | None = None,
    ) -> Pair:
        """Return float32 inputs (B, ...) and targets (B, ...); see :class:`.base.Task`."""
        seed = int(torch.randint(2**62, (), generator=generator)) if augment else 0
        inputs, targets = self._sources[split].read(indices, augment=augment, seed=seed)
        return self._finished(inputs, targets, indices if augment else None, seed, 0)

    def loader(self, passed: Pass) -> Iterator[Pair]:
        """Yield the batches of a pass; an example's random numbers depend on its index alone."""
        reading = Reading.of(passed)
        pairs = self._sources[passed.split].stream(reading)
        for share, (inputs, targets) in zip(reading.shares, pairs, strict=True):
            if passed.in_turn and not len(share):
                continue
            chosen = share if passed.augment else None
            yield self._finished(inputs, targets, chosen, passed.seed, passed.epoch)

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

    def _finished(
        self, inputs: Tensor, targets: Tensor, augmented: Tensor | None, seed: int, epoch: int
    ) -> Pair:
        """Move a batch, scale bytes, and augment the examples with the indices (B,), if any are given."""
        if self._device is not None:
            inputs = inputs.to(self._device, non_blocking=True)
            targets = targets.to(self._device, non_blocking=True)
        inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()
        if self._augment is not None and augmented is not None and len(augmented):
            examples = []
            for index, example in zip(augmented.tolist(), inputs, strict=True):
                with fixed_randomness(derived_seed(seed, epoch, index)):
                    examples.append(self._augment(example))
            inputs = torch.stack(examples)
        return inputs, self._targets(targets)

    def _targets(self, targets: Tensor) -> Tensor:
        """Return targets in the type and shape that losses take."""
        if self._classes:
            is_stack = targets.dim() == 4 and targets.shape[1] == 1
            return (targets[:, 0] if is_stack else targets).long()
        return targets[:, None] if targets.dim() == 1 else targets

    @property
    def _classes(self) -> bool:
        """Whether targets are indices of classes, of each example or of each pixel."""
        target = self._sources["train"].example[1]
        return target.dim() != 1 and not target.is_floating_point() and target.dtype != torch.bool

    def _count_outputs(self) -> int:
        if not self._classes:
            return int(self._sources["train"].example[1].numel() or 1)
        found, read = [], 0
        for source in self._sources.values():
            targets = source.targets()
            if targets is None:
                targets = source.read(spread(len(source), _LOOKED_AT), augment=False, seed=0)[1]
                read += len(targets)
            found.append(targets)
        classes = count_classes(found, self._loss, getattr(self._metric, "ignore_label", None))
        if read:
            self.notes += (
                f"The task has {counted(classes, 'class', 'classes')} by the labels of "
                f"{counted(read, 'example')}; give num_outputs if there "
                "are more.",
            )
        return classes

    def _copies(self, outputs: Tensor, targets: Tensor) -> Pair:
        """Return copies in matching shapes, as users' functions may edit them in place."""
        return outputs.clone(), self._match_shape(outputs, targets).clone()

    def _match_shape(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Match the targets' shape to the outputs'; else (B, 1) and (B,) broadcast to a loss of (B, B)."""
        expected = tuple(targets.shape)
        if self._classes:
            expected = (len(targets), self.num_outputs, *targets.shape[1:])
        if outputs.shape == expected:
            return targets
        if not self._classes and outputs.numel() == targets.numel():
            return targets.reshape(outputs.shape)
        reason = ""
        remedy = "give a network or targets of the other shape, or a task of your own for another loss"
        if self._classes:
            is_narrow = outputs.dim() > 1 and outputs.shape[1] < self.num_outputs
            reason = self._largest_label() if is_narrow else ""
            remedy = f"give a network with {counted(self.num_outputs, 'output')}, or num_outputs"
        elif targets.dtype is torch.bool and targets[0].numel() == 1:
            remedy = f"{remedy}; for bool targets as two classes give targets.long()"
        raise ValueError(
            f"{self.name} expects outputs of the shape {expected[1:]} per example{reason}, "
            f"the network returns {tuple(outputs.shape[1:])}: {remedy}"
        )

    def _largest_label(self) -> str:
        """Say which part has the label that makes so many classes; "" if none is known to have it."""
        label = self.num_outputs - 1
        for split, source in self._sources.items():
            targets = source.targets()
            if targets is not None and bool((targets == label).any()):
                return f", as {split} has the label {label}"
        return ""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what is no argument of :class:`SourceTask`.

    Raises:
        TypeError: If there is one.
    """
    known = [name for name in inspect.signature(SourceTask).parameters if name != "sources"]
    for name in settings.keys() - set(known):
        raise TypeError(f"a task has no setting {name!r}{did_you_mean(name, known)}")


def _check_shapes(examples: Mapping[SplitName, Pair]) -> None:
    """Check that the splits have inputs of one shape, and targets of one shape and kind."""
    shapes = {tuple(inputs.shape) for inputs, _ in examples.values()}
    answers = {
        (tuple(target.shape) or (1,) * target.is_floating_point(), target.is_floating_point())
        for _, target in examples.values()
    }
    bytes_in = [split for split, (inputs, _) in examples.items() if inputs.dtype == torch.uint8]
    if 0 < len(bytes_in) < len(examples):
        raise ValueError(
            f"inputs of {' and '.join(bytes_in)} are bytes, which are scaled to [0, 1], and those of the "
            "other parts are numbers, which are not; give all in one type"
        )
    if any(inputs.is_complex() for inputs, _ in examples.values()):
        raise ValueError("the inputs are complex numbers; give real ones, such as torch.view_as_real makes")
    if len(shapes) > 1 or len(answers) > 1:
        what, found = ("inputs", shapes) if len(shapes) > 1 else ("targets", {shape for shape, _ in answers})
        raise ValueError(
            f"train, val and test have {what} of different shapes or types: {sorted(found)}; "
            "give all in one shape and type"
        )


def _kind_of(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"
