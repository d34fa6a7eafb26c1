"""Networks that are trained for int8, whole or after a cut (Jacob et al. 2018, arXiv 1712.05877)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from ...envs.modules.copying import replica
from ...envs.quantization.insertion import float_notes, remove_fake_quantization
from ...envs.quantization.ranges import ranges_of, save_ranges
from ...envs.recovery.before_training import reestimate_and_quantize
from ...envs.surgery.plan import PruningPlan
from ..deciders.names import PPO
from .base import Job, Kind, Result, System
from .filters import prune_within_passes
from .training import train_stage


@dataclass(frozen=True)
class Int8:
    """Train the dense network under fake quantisation; no filter goes, whatever the target is."""

    kind: ClassVar[Kind] = "int8"

    def __call__(self, job: Job) -> Result:
        """Train for all of the job's passes, with the dense network as the teacher."""
        recovery, model = replace(job.config.recovery, quantize="int8"), replica(job.model)
        reestimate_and_quantize(model, job.task, recovery, seed=job.config.seed)
        train_stage(job, model, job.epochs, "int8")
        note = "No filter goes: the MACs are the dense network's, in int8."
        notes = (note, *float_notes(model))
        return _stored(job, Result(model, PruningPlan.dense(job.network), job.epochs, notes))


@dataclass(frozen=True)
class PrunedInt8:
    """Choose filters as ``secateur prune --quantize int8`` does, cut, and recover under fake quantisation.

    Args:
        method: A method of ``secateur prune``.
    """

    method: str
    kind: ClassVar[Kind] = "int8"

    def __call__(self, job: Job) -> Result:
        """Choose, cut and recover; see :func:`.prune_within_passes`."""
        return _stored(job, prune_within_passes(job, self.method, quantize="int8"))


def _stored(job: Job, result: Result) -> Result:
    """Let the weights be written in float, and their ranges beside them, as ``secateur prune`` does."""
    ranges = ranges_of(result.model)
    if job.folder is not None:
        job.folder.write(lambda path: save_ranges(ranges, path))
    return replace(result, stored=remove_fake_quantization(replica(result.model)))


INT8: Mapping[str, System] = {
    "int8": Int8(),
    "fpgm-int8": PrunedInt8("fpgm-global"),
    "agent-int8": PrunedInt8(PPO),
}
"""The systems of this module by name."""
