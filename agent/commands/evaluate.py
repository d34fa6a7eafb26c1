"""``secateur evaluate``: measure on test."""

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tyro.conf import Positional

from ...envs.io.ranges import check_seed
from ...envs.io.run_files import CONFIG, WEIGHTS, no_run, not_finished
from ...envs.io.suggestions import looks_like_path
from ..procedures.data_config import DataConfig, read_data_config
from ..procedures.options import LatencyOptions
from ..run.flat_options import read_config, values_of
from .console import console
from .process import choose_threads

if TYPE_CHECKING:  # torch takes seconds, and --help needs none
    from torch import nn

    from ...envs.tasks import Task


@dataclass(frozen=True)
class Evaluate:
    """Measure a pruned run or a dense model on the test images.

    The default of each option of the data and of latency is, for a run, the value that the run was given.
    """

    what: Positional[str]
    """Folder of a prune run, or a model as for prune."""
    data: DataConfig = field(default_factory=DataConfig)
    latency: LatencyOptions = field(default_factory=LatencyOptions)
    weights: str | None = None
    """Weights of a dense model: a file, or the name of published weights such as DEFAULT; not allowed for a
    run, which has its own."""
    json: bool = False
    """Print JSON."""
    seed: int | None = None
    """Seed of the split into train and val for a dense model, 0 by default; not allowed for a run, which has
    its own."""

    shared: ClassVar[bool] = True
    """Whether several processes share the work."""
    everyday: ClassVar[tuple[str, ...]] = ("what", "weights", "data", "json", "seed")
    example: ClassVar[str] = """\
secateur evaluate runs/mine
secateur evaluate resnet20 --weights resnet20.pt --data cifar10"""

    @property
    def is_run(self) -> bool:
        """Whether ``what`` is the folder of a run."""
        return (Path(self.what) / CONFIG).is_file()

    def defaults(self) -> dict[str, Any]:
        """Return the options of a run on its data and on latency, by name.

        Raises:
            ValueError: If its configuration cannot be read.
        """
        folder, names = Path(self.what), values_of(self.latency)
        timed = {name: value for name, value in read_config(folder).items() if name in names}
        return values_of(read_data_config(folder)) | timed

    def run(self) -> None:
        """Measure and print."""
        import torch

        from ...envs.cost.counts import cost
        from ...envs.tasks import measure
        from ...envs.tasks.optional_members import metric_name
        from ...envs.tasks.user_task import check_answers
        from ...envs.tracing import trace
        from ..procedures.quantized_run import under_ranges_of
        from ..reporting.report import plain_values
        from ..reporting.speed import measure_speeds
        from ..reporting.trace_page import measurements
        from ..run.progress import log_info

        run = Path(self.what)
        model, task = self._load()
        for note in check_answers(model, task):
            log_info(note)
        network = trace(model, torch.zeros(2, *task.input_shape))
        choose_threads(network)
        measured = measure(model, task, "test")
        (speed,), settings, notes = measure_speeds([model], task, self.latency.latency)
        for note in notes:
            log_info(note)
        found = {
            "metric": metric_name(task),
            "accuracy": measured.accuracy,
            "details": dict(measured.details),
            "loss": measured.loss,
            "accuracy_int8": None,
            **asdict(cost(network)),
            **speed,
            **settings,
            "images": measured.images,
        }
        quantized = under_ranges_of(run, model, task.input_shape) if self.is_run else None
        if quantized is not None:
            found["accuracy_int8"] = measure(quantized, task, "test").accuracy
        if self.json:
            json.dump(plain_values(found), sys.stdout, indent=2)
            print()
        else:
            console().print(measurements(self.what, found))

    def _load(self) -> "tuple[nn.Module, Task]":
        """Return the network of a run or a dense one, and the data."""
        from ...envs.models import is_user_defined, usual_sizes
        from ..procedures.opening import dense_networks, open_job
        from ..procedures.pruned_runs import load_pruned_run

        run, seed = Path(self.what), self.seed or 0
        check_seed(seed)
        if self.is_run:
            for name in ("weights", "seed"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{run} is a run and has its own {name}; leave out --{name}")
            if not (run / WEIGHTS).is_file():
                raise ValueError(not_finished(run, WEIGHTS))
            return load_pruned_run(run, self.data)
        if run.is_dir() or run.suffix == ".json" or len(run.parts) > 2 or looks_like_path(self.what):
            raise ValueError(f"{no_run(run)}, or the name of a network")
        if self.weights is None and not is_user_defined(self.what):
            usual_sizes(self.what)  # an unknown name is a more likely mistake
            raise ValueError(f"{self.what} has random weights; give --weights, or the folder of a run")
        # All of test is measured, unless only a part is asked for.
        whole = self.data.val_from == "auto" and ":" not in self.data.task
        data = replace(self.data, val_from="train") if whole else self.data
        opened = open_job(data, dense_networks([self.what], [self.weights]), seed, to_prune=False)
        return opened.models[0], opened.task
