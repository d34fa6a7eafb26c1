"""``secateur evaluate``: measure on test."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tyro.conf import Positional

from ...envs.cost.config import LatencyConfig
from ...envs.io.run_files import CONFIG
from ..procedures.data_config import DataConfig
from .console import console
from .process import choose_threads


@dataclass(frozen=True)
class Evaluate:
    """Measure a pruned run or a dense model on the test images."""

    what: Positional[str]
    """Folder of a prune run, or a model as for prune."""
    data: DataConfig = field(default_factory=DataConfig)
    weights: str | None = None
    """Of a dense model; a run has its own, and its own data unless others are given."""
    json: bool = False
    """Print JSON."""
    seed: int = 0
    """Of the data's splits, for a dense model."""

    def run(self) -> None:
        """Measure and print."""
        import torch

        from ...envs.cost.counts import cost
        from ...envs.cost.timer import measure_latency
        from ...envs.tasks import measure
        from ...envs.tasks.optional_members import metric_name
        from ...envs.tasks.user_task import check_answers
        from ...envs.tracing import trace
        from ..procedures.loading import build_dense_network, load_pruned_run, load_task
        from ..reporting.trace_page import measurements
        from ..run.progress import log_info

        run = Path(self.what)
        if (run / CONFIG).is_file():
            model, task = load_pruned_run(run, None if self.data == DataConfig() else self.data)
        elif run.is_dir():
            raise ValueError(f"{run} is no finished run: it has no config.yaml")
        else:
            task = load_task(self.data, self.seed)
            model = build_dense_network(self.what, task, self.weights, self.seed)
            if self.weights is None and ":" not in self.what:
                raise ValueError(f"{self.what} has random weights; give --weights, or the folder of a run")
        for note in check_answers(model, task):
            log_info(note)
        network = trace(model, torch.zeros(2, *task.input_shape))
        choose_threads(network)
        measured = measure(model, task, "test")
        found = {
            "metric": metric_name(task),
            "accuracy": measured.accuracy,
            "details": dict(measured.details),
            "loss": measured.loss,
            **asdict(cost(network)),
            "latency_ms": measure_latency(model, task.input_shape, LatencyConfig()),
            "images": measured.images,
        }
        if self.json:
            json.dump(found, sys.stdout, indent=2)
            print()
        else:
            console().print(measurements(self.what, found))
