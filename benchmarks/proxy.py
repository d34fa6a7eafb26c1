"""Which measurement before recovery predicts the accuracy after it.

    python benchmarks/proxy.py resnet20 --data cifar10-folder --weights resnet20-cifar10.safetensors --runs
    runs/proxy

Candidates of one size (random, of heuristics, and of an agent at several stages of its training) are
measured by every proxy on 1,024 images of val, then recovered by a few epochs of fine-tuning and measured on
test. The script prints Spearman's rank correlation of the two, with a 95 % interval by bootstrap over
candidates. An additional candidate comes from a complete search on the co-trained weights and shows whether
such a search is worthwhile. Results are kept under ``--runs`` and not computed again. ``val`` is half of
test, as the published weights were trained on all of train.
"""

import argparse
import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cotraining import cotrain
from proxies import PROXIES, Setting
from scipy import stats
from stable_baselines3.common.callbacks import BaseCallback

from secateur.agent.deciders.baselines import Baseline
from secateur.agent.deciders.selection import choose
from secateur.agent.learning.config import PRETRAINED, AgentConfig
from secateur.agent.learning.frozen_agent import FrozenAgent
from secateur.agent.learning.training import train_agent
from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.modules.copying import replica
from secateur.envs.problem.problem import PruningProblem
from secateur.envs.recovery.batchnorm import reestimate_batchnorm
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.cutting import cut
from secateur.envs.surgery.plan import Mask, PruningPlan
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import measure
from secateur.rewards import TargetReward

STAGES = (0, 100, 300, 600, 1000, 1500)
"""Numbers of measured candidates after which the agent makes proposals."""

HEURISTICS = ("l2-uniform", "l2-global", "bn-global", "fpgm-uniform", "fpgm-global", "taylor-uniform",
              "taylor-global", "taylor-global-per-mac")  # fmt: skip

RANDOM = 4
RESAMPLES = 10_000


def main() -> None:
    """Compute the missing results, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--runs", type=Path, required=True, help="folder for all results")
    parser.add_argument("--target-macs", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=4, help="fine-tuning epochs per candidate")
    parser.add_argument("--cotraining-epochs", type=int, default=2)
    parser.add_argument(
        "--part",
        type=int,
        nargs=2,
        default=(0, 1),
        metavar=("K", "N"),
        help="fine-tune the Kth of every N candidates",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    args.runs.mkdir(parents=True, exist_ok=True)
    task = load_task(DataConfig(data=args.data, augment="flip-crop", val_from="test"), seed=0)
    dense = build_dense_network(args.model, task, args.weights, seed=0)
    network = trace_exactly(dense, torch.zeros(2, *task.input_shape))
    problem = PruningProblem.build(args.model, dense, task, network=network)
    candidates = kept(args.runs / "candidates.json", lambda: draw_candidates(problem, args.target_macs))
    setting = Setting(dense, network, task, cotrained(args, problem), problem.compensation)
    found = kept(args.runs / "searched.json", lambda: searched(setting, args.model, args.target_macs))
    candidates.append(found)
    rows = []
    for number, candidate in enumerate(candidates):
        masks = PruningPlan.from_json(json.dumps(candidate["plan"])).masks(network)
        rows.append({"model": args.model, "candidate": candidate["name"]})
        for name in PROXIES:
            path = args.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{number}.json"
            rows[-1] |= kept(path, lambda n=name, m=masks: proxy(n, setting, m))
    part, parts = args.part
    for number, candidate in enumerate(candidates):
        path = args.runs / f"recovered-{args.epochs}-{number}.json"
        if number % parts == part or path.is_file():
            masks = PruningPlan.from_json(json.dumps(candidate["plan"])).masks(network)
            checkpoint = Checkpoint(path.with_suffix(".checkpoint"))
            rows[number] |= kept(path, lambda m=masks, c=checkpoint: recovered(setting, m, args.epochs, c))
            print(
                f"{candidate['name']}: {rows[number]['recovered']:.2f} after {args.epochs} epochs",
                flush=True,
            )
    print_table([row for row in rows[:-1] if "recovered" in row], args.epochs)  # the last knew a proxy
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Read an earlier result, or compute and write it."""
    if not path.is_file():
        made = json.dumps(make())
        write_atomically(path, lambda aside: aside.write_text(made))
    return json.loads(path.read_text())


class Snapshots(BaseCallback):
    """Save the agent after given numbers of candidates."""

    def __init__(self, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = list(stages)
        self.tried = 0
        self.scorers: dict[int, torch.nn.Module] = {}

    def _on_rollout_start(self) -> None:
        while self.stages and self.tried >= self.stages[0]:
            self.scorers[self.stages.pop(0)] = copy.deepcopy(self.model.policy.mlp_extractor).cpu().eval()

    def _on_step(self) -> bool:
        self.tried += int(sum(self.locals["dones"]))
        return True

    def _on_training_end(self) -> None:
        self._on_rollout_start()


def draw_candidates(problem: PruningProblem, target: float) -> list[dict[str, Any]]:
    """Return candidates: random ones, those of heuristics, and those of an agent at several stages."""
    found = {name: Baseline.from_name(name).decide(problem, target, "macs")[0] for name in HEURISTICS}
    for seed in range(RANDOM):
        found[f"random widths {seed}"] = random_widths(problem, target, seed)
    snapshots = Snapshots(STAGES)
    training = train_agent(
        [problem], TargetReward(target), AgentConfig(evaluations=STAGES[-1]), callbacks=[snapshots]
    )
    for stage, scorer in snapshots.scorers.items():
        decider = dataclasses.replace(training.decider, scorer=scorer)
        best = decider.decide(problem, target, "macs")
        found[f"ppo {stage}"] = best[0]
        found[f"ppo {stage} sample"] = best[-1]
    return [
        {"name": name, "plan": json.loads(PruningPlan.from_masks(problem.network, masks).to_json())}
        for name, masks in found.items()
    ]


def searched(setting: Setting, name: str, target: float) -> dict[str, Any]:
    """Search as ``secateur prune`` does, on the co-trained weights."""
    problem = PruningProblem.build(name, setting.cotrained, setting.task, network=setting.network, images=256)
    reward, start = TargetReward(target), FrozenAgent.load(PRETRAINED)
    decider = train_agent([problem], reward, AgentConfig(), initial_agent=start).decider
    masks = choose(problem.choice_problem(2048, seed=1), decider, reward).masks
    plan = PruningPlan.from_masks(problem.network, masks)
    return {"name": "ppo on co-trained weights", "plan": json.loads(plan.to_json())}


def random_widths(problem: PruningProblem, target: float, seed: int) -> list[Mask]:
    """Keep a random share of each layer, its best filters by Taylor score, scaled to meet the size."""
    generator = np.random.default_rng(seed)
    shares = generator.uniform(0.2, 1.0, len(problem.network.layers))
    scores = problem.scores["taylor"]

    def masks(scale: float) -> list[Mask]:
        kept_shares = np.clip(shares * scale, 0.0, 1.0)
        return [keep_best(score, share) for score, share in zip(scores, kept_shares, strict=True)]

    low, high = 0.0, 5.0
    for _ in range(30):
        middle = (low + high) / 2
        counts = np.array([mask.sum() for mask in masks(middle)])
        within = problem.network.macs(counts) <= target * problem.network.macs(problem.network.widths)
        low, high = (middle, high) if within else (low, middle)
    return masks(low)


def keep_best(score: np.ndarray, share: float) -> Mask:
    """Keep a share of a layer's filters, at least one."""
    mask = np.zeros(len(score), np.bool_)
    mask[np.argsort(-score)[: max(1, round(share * len(score)))]] = True
    return mask


def cotrained(args: argparse.Namespace, problem: PruningProblem) -> torch.nn.Module:
    """Co-train the dense network with sub-networks of about the target size, unless the result exists."""
    path = args.runs / f"cotrained-{args.cotraining_epochs}.safetensors"
    if not path.is_file():
        config = RecoveryConfig(epochs=args.cotraining_epochs)

        def draw(generator: np.random.Generator) -> list[Mask]:
            return [
                generator.random(layer.filters)
                < np.clip(args.target_macs**0.5 + generator.uniform(-0.4, 0.3), 0.15, 1)
                for layer in problem.network.layers
            ]

        began = time.perf_counter()
        model = cotrain(problem.model, problem.network, problem.task, draw, config)
        print(f"co-trained in {time.perf_counter() - began:.0f} s", flush=True)
        write_tensors(path, model.state_dict())
    return build_dense_network(args.model, problem.task, str(path), seed=0)


def proxy(name: str, setting: Setting, masks: list[Mask]) -> dict[str, float]:
    """Measure a candidate by one proxy: accuracy, loss and seconds."""
    began = time.perf_counter()
    measured = measure(PROXIES[name](setting, masks), setting.task, "val", limit=1024)
    return {
        f"{name} accuracy": measured.accuracy,
        f"{name} loss": measured.loss,
        f"{name} seconds": round(time.perf_counter() - began, 2),
    }


def recovered(setting: Setting, masks: list[Mask], epochs: int, checkpoint: Checkpoint) -> dict[str, float]:
    """Cut, recover and measure on test."""
    began = time.perf_counter()
    plan = PruningPlan.from_masks(setting.network, masks)
    model = cut(setting.dense, setting.network, plan)
    reestimate_batchnorm(model, setting.task)
    finetune(
        model,
        setting.task,
        RecoveryConfig(epochs=epochs),
        teacher=replica(setting.dense),
        checkpoint=checkpoint,
    )
    reestimate_batchnorm(model, setting.task)
    accuracy = measure(model, setting.task, "test").accuracy
    return {"recovered": accuracy, "recovery seconds": round(time.perf_counter() - began, 1)}


def print_table(rows: list[dict[str, Any]], epochs: int) -> None:
    """Print the rank correlation of each proxy with the recovered accuracy."""
    if len(rows) < 3:
        print(f"{len(rows)} candidates are recovered so far; correlations want at least 3")
        return
    truth = np.array([row["recovered"] for row in rows])
    print(f"\n{len(rows)} candidates, {truth.min():.2f} to {truth.max():.2f} % after {epochs} epochs\n")
    print("| proxy | by accuracy | 95 % interval | by loss | 95 % interval | seconds a candidate |")
    print("|---|---|---|---|---|---|")
    for name in PROXIES:
        cells = []
        for kind, sign in (("accuracy", 1), ("loss", -1)):
            values = sign * np.array([row[f"{name} {kind}"] for row in rows])
            low, high = interval(values, truth)
            cells.append(f"{stats.spearmanr(values, truth).statistic:.2f} | {low:.2f} to {high:.2f}")
        seconds = np.mean([row[f"{name} seconds"] for row in rows])
        print(f"| {name} | {' | '.join(cells)} | {seconds:.1f} |")


def interval(values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the rank correlation over resampled candidates."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(len(truth), size=len(truth))
        if len(set(values[chosen])) > 1 and len(set(truth[chosen])) > 1:
            found.append(stats.spearmanr(values[chosen], truth[chosen]).statistic)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
