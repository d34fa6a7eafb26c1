"""Layer-wise pruning: decide about, cut and fine-tune one layer after the other, from the input on.

Each layer has its own agent, which sees this layer only. It learns on the network with all earlier layers cut
and fine-tuned (Huang et al. 2018, arXiv 1801.07365, section 3). Accuracy drops are measured against the dense
network: accuracy that one layer loses and fine-tuning does not recover counts against the bound of all later
layers.

With a drop bound the reward is that of the paper, with the layer's filters as the size (eq. 3-5). Targets are
not in the paper: the number of filters that each layer keeps is fixed first, and the agents choose the
filters.

Shapes: L layers, N filters of a layer.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from ...envs.cost.counts import size_ratio
from ...envs.evaluation.evaluator import CandidateEvaluator
from ...envs.evaluation.factory import EvaluatorFactory
from ...envs.evaluation.journal import Journal
from ...envs.modules.copying import replica
from ...envs.modules.ranks import broadcast
from ...envs.problem.features import StaticFeatures, static_features
from ...envs.problem.importance import importance
from ...envs.problem.problem import PruningProblem
from ...envs.problem.reconstruction import reconstructions
from ...envs.recovery.batchnorm import reestimate_batchnorm
from ...envs.recovery.compensation import Compensation
from ...envs.recovery.finetuning import finetune
from ...envs.recovery.stopwatch import Stopwatch
from ...envs.surgery.plan import PruningPlan
from ...envs.surgery.verification import verify_cut
from ...envs.tasks import measure
from ...envs.tasks.optional_members import metric_name
from ...envs.tracing.derived import after_cut, restricted
from ...rewards import Reward, TargetReward, TryAndLearnReward
from ...rewards.target import OVERSHOOT_PRICE
from ..deciders.base import Decider
from ..deciders.baselines import Baseline
from ..deciders.names import PPO
from ..deciders.selection import Choice, SearchResult
from ..learning.callbacks import ProgressBar, SearchMonitor
from ..learning.frozen_agent import FrozenAgent
from ..learning.training import train_agent
from ..run.folder import RunFolder
from ..run.progress import log_info
from ..run.recovery_monitor import RecoveryMonitor
from ..run.search_history import SearchHistory
from .config import PruningConfig
from .goal import Goal
from .layerwise_choice import SAMPLES, choose_in_layer, search_in_layer


def prune_layer_by_layer(
    problem: PruningProblem,
    goal: Goal,
    config: PruningConfig,
    folder: RunFolder | None,
    teacher: nn.Module | None,
) -> SearchResult:
    """Prune and fine-tune the layers of a network one after the other.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run. Each layer's agent has an equal share of the evaluations, at least one
            update.
        folder: Folder of the run, for each layer's agent (under ``layers``) and the scalars ``layerwise/*``
            (one step per layer); None writes nothing.
        teacher: The network to distil from, or None.

    Raises:
        ValueError: If no layer can lose a filter within the drop bound.
        InexactCutError: If a cut network does not compute what the masked one does.
    """
    pruning = _LayerwisePruning(problem, goal, config, folder, teacher)
    for index in pruning.layers:
        pruning.prune_layer(index)
    if config.drop_bound is not None and pruning.plan == PruningPlan.dense(problem.network):
        raise ValueError(
            f"no layer can lose a filter and keep the accuracy drop on val within {config.drop_bound:g} "
            "points; raise --drop-bound, or give --target-macs and let fine-tuning recover the accuracy"
        )
    verify_cut(problem.model, problem.network, pruning.plan, torch.zeros(2, *problem.task.input_shape))
    return pruning.result()


class _LayerwisePruning:
    """The state of layer-wise pruning: the network after the layers so far, its plan and its statistics.

    Args:
        problem: The dense network and its data.
        goal: The goal of the run.
        config: The options of the run.
        folder: Folder of the run; None writes nothing.
        teacher: The network to distil from, or None.
    """

    def __init__(
        self,
        problem: PruningProblem,
        goal: Goal,
        config: PruningConfig,
        folder: RunFolder | None,
        teacher: nn.Module | None,
    ) -> None:
        self._dense, self._goal, self._config, self._folder = problem, goal, config, folder
        self.model = replica(problem.model)
        self.network = problem.network
        self.plan = PruningPlan.dense(problem.network)
        self.rows: list[dict[str, Any]] = []
        self._rewards: list[float] = []
        self._steps = 0
        self._finetuning_seconds = 0.0
        if folder is not None and isinstance(goal.decider, FrozenAgent):
            folder.write(goal.decider.save)
        self._teacher = teacher
        journal = folder.journal if folder else None
        self._clock = journal.begin() if journal else Stopwatch()
        self._search = self._factory(config.search_images, config.seed, journal)
        self._choice = self._factory(config.choice_images, config.seed + 1, journal)
        self._counts = self._planned_counts()
        self.layers: list[int] = np.flatnonzero(self._counts < problem.network.widths).tolist()

    def _factory(self, images: int, seed: int, journal: Journal | None) -> EvaluatorFactory:
        """Create a factory of evaluators that compare with the dense network, measured on the same images."""
        dense = self._dense
        factory = EvaluatorFactory(dense.task, images, seed=seed, journal=journal, engine=dense.engine)
        return factory.against(_evaluator(factory, dense, "dense"))

    def _planned_counts(self) -> npt.NDArray[np.int64]:
        """Return the number of filters (L,) that each layer keeps; with a drop bound the smallest allowed.

        A baseline or a frozen agent decides about the whole network first, and the counts of this decision
        are used. Agents that see one layer each cannot compare layers, so all layers keep the same ratio.
        """
        reward = self._goal.reward
        if reward.target is None:
            return self.network.min_widths
        planner = self._goal.decider or Baseline("l2", "uniform")
        masks = planner.decide(self._dense, reward.target, reward.size)[0]
        return broadcast(np.array([mask.sum() for mask in masks], np.int64))

    def prune_layer(self, index: int) -> None:
        """Choose the filters of one layer, cut, fine-tune, and log the result."""
        problem = self._problem(index)
        layer = problem.network.layers[0]
        reward = self._reward(problem, index)
        label = f"layer {index + 1} of {len(self.network.layers)}"
        decider, tried = self._train(problem, reward, index, label)
        choice_problem = replace(problem, evaluator=_evaluator(self._choice, problem, f"layer {index}"))
        choice = choose_in_layer(choice_problem, decider, reward)
        row: dict[str, Any] = {"name": layer.name, "filters": layer.filters, "kept": layer.filters}
        if choice is not None:
            choice = replace(choice, masks=broadcast(choice.masks))
            self._cut(problem, choice, index)
            row["kept"] = int(choice.masks[0].sum())
            row["val_accuracy_drop_before"] = choice.outcome.accuracy_drop
            self._finetune(label, index)
        row["val_accuracy"] = self._accuracy()
        row["evaluations"] = tried + choice_problem.evaluator.evaluations
        self.rows.append(row)
        log_info(
            f"{label}, {layer.name}: {row['kept']} of {layer.filters} filters stay, "
            f"{metric_name(problem.task)} {row['val_accuracy']:.2f} % on val"
        )
        if self._folder is not None:
            ratio = size_ratio(self._dense.network, self.plan.counts(self._dense.network), "macs")
            scalars = {
                "layerwise/val_accuracy": row["val_accuracy"],
                "layerwise/keep_ratio": row["kept"] / layer.filters,
                "layerwise/macs_ratio": float(ratio),
            }
            self._folder.log(scalars, index + 1)

    def _problem(self, index: int) -> PruningProblem:
        """Create the problem of one layer, with features computed on the whole network as it is now."""
        task, network = self._dense.task, self.network
        scores = importance(self.model, network, task, images=min(1024, self._config.search_images))
        single, images = restricted(network, index), self._config.recovery.compensation_images
        whole = Compensation(self.model, network, task, images=images, seed=self._config.seed)
        features = static_features(network, scores, reconstructions(self.model, network, whole))
        problem = replace(
            self._dense,
            model=self.model,
            network=single,
            compensation=Compensation(self.model, single, task, images=images, seed=self._config.seed),
            scores={criterion: [by_layer[index]] for criterion, by_layer in scores.items()},
            features=StaticFeatures([features.filters[index]], features.layers[index : index + 1]),
        )
        return replace(problem, evaluator=_evaluator(self._search, problem, f"layer {index}"))

    def _reward(self, problem: PruningProblem, index: int) -> Reward:
        """Return the reward of one layer: that of the paper, or a target for its number of filters."""
        if self._config.drop_bound is not None:
            return TryAndLearnReward(self._config.drop_bound, "filters")
        network = problem.network
        # The price of overshoot is for all of the network's MACs, so a layer has its share of it.
        share = 1 - float(size_ratio(network, [0], "macs"))
        target = float(self._counts[index] / network.widths[0])
        return TargetReward(target, "filters", OVERSHOOT_PRICE * share)

    def _train(self, problem: PruningProblem, reward: Reward, index: int, label: str) -> tuple[Decider, int]:
        """Return the decider of a layer, and the number of candidates that its training measured."""
        if self._goal.decider is not None:
            return self._goal.decider, 0
        config, folder = self._config, self._folder
        search = search_in_layer(config.learning, len(self.layers))
        history = SearchHistory()
        callbacks: list[BaseCallback] = [ProgressBar(history, search.evaluations, label=label, leave=False)]
        if folder is not None:
            callbacks.append(SearchMonitor(history, search.updates, figures=1))
        training = train_agent(
            [problem],
            reward,
            search,
            initial_agent=self._goal.initial_agent,
            seed=config.seed,
            logger=folder.logger if folder else None,
            callbacks=callbacks,
            history=history,
            first_step=self._steps,
        )
        self._steps = training.model.num_timesteps
        self._rewards += training.rewards
        if folder is not None:
            name = f"{index + 1:03d}-{problem.network.layers[0].name.replace('/', '_')}"
            folder.write(lambda path: _save_agent(training.decider, path / "layers" / name))
        samples = 0 if reward.target is None else SAMPLES
        return replace(training.decider, samples=samples), training.evaluations

    def _cut(self, problem: PruningProblem, choice: Choice, index: int) -> None:
        """Remove filters of one layer from the network, its trace and the plan."""
        self.model = problem.cut(PruningPlan.from_masks(problem.network, choice.masks))
        masks = [np.ones(layer.filters, np.bool_) for layer in self.network.layers]
        masks[index] = choice.masks[0]
        self.plan = self.plan.then(PruningPlan.from_masks(self.network, masks))
        self.network = after_cut(self.network, masks)

    def _finetune(self, label: str, index: int) -> None:
        """Fine-tune after the cut of one layer, with distillation from the dense network."""
        task, config = self._dense.task, self._config
        recovery = replace(config.recovery, epochs=config.layer_epochs)
        if recovery.epochs:
            folder = self._folder
            monitoring = RecoveryMonitor(task, folder, label, leave=False)
            with self._clock.paused(), monitoring as monitor:
                self._finetuning_seconds += finetune(
                    self.model,
                    task,
                    recovery,
                    teacher=self._teacher,
                    seed=config.seed + len(self.rows),
                    checkpoint=folder.checkpoint(f"layer-{index + 1:03d}") if folder else None,
                    on_step=monitor.on_step,
                ).seconds
        self.model.eval()
        reestimate_batchnorm(self.model, task, images=recovery.batchnorm_images, seed=config.seed)

    def _accuracy(self) -> float:
        limit = self._config.choice_images
        return measure(self.model, self._dense.task, "val", limit=limit).accuracy

    def result(self) -> SearchResult:
        """Return the result of all layers."""
        dense = measure(self._dense.model, self._dense.task, "val", limit=self._config.choice_images)
        accuracy = self._accuracy()
        search = {
            "evaluations": sum(row["evaluations"] for row in self.rows),
            "seconds": round(self._clock.seconds, 1),
            "layer_epochs": self._config.layer_epochs,
            "finetuning_seconds": round(self._finetuning_seconds, 1),
            "val_accuracy": accuracy,
            "val_accuracy_drop": dense.accuracy - accuracy,
            "rewards": [round(reward, 4) for reward in self._rewards],
            "layers": self.rows,
        }
        name = PPO if self._goal.decider is None else self._goal.decider.name
        return SearchResult(self.model, self.plan, name, search)


def _save_agent(agent: FrozenAgent, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # it exists in a resumed run
    agent.save(folder)


def _evaluator(factory: EvaluatorFactory, problem: PruningProblem, stage: str) -> CandidateEvaluator:
    return factory.evaluator(
        problem.model,
        problem.network,
        problem.compensation,
        scope=f"{stage}, {factory.images} images",
        name=problem.name,
    )
