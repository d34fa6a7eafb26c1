from .agent.comparison.front_door import compare as compare
from .agent.procedures.config import PruningConfig as PruningConfig
from .agent.procedures.front_door import cut as cut
from .agent.procedures.front_door import load as load
from .agent.procedures.front_door import prune as prune
from .agent.procedures.front_door import recover as recover
from .agent.procedures.front_door import search as search
from .envs.surgery.plan import PruningPlan as PruningPlan
from .envs.surgery.verification import trace_exactly as trace
from .envs.tasks.base import Task as Task
from .envs.tasks.own.tensors import TensorTask as TensorTask

__all__ = [
    "PruningConfig",
    "PruningPlan",
    "Task",
    "TensorTask",
    "__version__",
    "compare",
    "cut",
    "load",
    "prune",
    "recover",
    "search",
    "trace",
]

__version__: str
