"""The peers' side of ``peers.py``: NVIDIA ModelOpt's FastNAS, Torch-Pruning and torch-kirigami cut a network.

    peers-venv/bin/python benchmarks/peer_cuts.py REQUEST RESPONSE

runs in an environment of their own (``peers-requirements.txt``); ``peers.py`` starts it. Each peer is used as
its documentation shows it. A peer is imported only when it is used.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

DIVISOR = 4
"""FastNAS's divisor of the numbers of channels; its own 32 leaves the small networks of CIFAR no choice."""

STEPS = 200
"""Pruning steps of Torch-Pruning from dense to nothing; it stops at the first that is small enough."""

BISECTIONS = 7
"""Bisection steps of torch-kirigami's budget of parameters; the MACs come within 1 % of what is wanted."""


@dataclass(frozen=True)
class Request:
    """What a peer gets.

    Args:
        peer: Name of the peer in ``PEERS``.
        model: The dense network, in evaluation mode.
        heads: Names of the modules that compute the network's outputs.
        macs_ratio: Wanted MACs, pruned / dense.
        val: Images (N, C, H, W) and labels (N,) for measuring candidates.
        train: Batches of augmented training images (B, C, H, W) for batch-norm statistics.
    """

    peer: str
    model: nn.Module
    heads: Sequence[str]
    macs_ratio: float
    val: tuple[Tensor, Tensor]
    train: Sequence[Tensor] = field(default=())

    @property
    def example(self) -> Tensor:
        """Two images."""
        return self.val[0][:2]


def fastnas(request: Request) -> tuple[nn.Module, int]:
    """Search with FastNAS; return the network and the number of candidates that were measured."""
    import modelopt.torch.prune as pruning

    images, labels = request.val
    measured = 0

    def accuracy(model: nn.Module) -> float:
        nonlocal measured
        measured += 1
        with torch.no_grad():
            answers = torch.cat([model(part).argmax(1) for part in images.split(128)])
        return 100 * float((answers == labels).float().mean())

    model, _ = pruning.prune(
        request.model,
        mode=[("fastnas", _fastnas_rules())],
        constraints={"flops": f"{100 * request.macs_ratio:g}%"},
        dummy_input=request.example[:1],
        config={"data_loader": request.train, "score_func": accuracy, "collect_func": lambda batch: batch},
    )
    return _without_modelopt(model), measured


def torch_pruning_base(request: Request) -> tuple[nn.Module, int]:
    """Prune equal shares of all layers by the magnitude of groups (Torch-Pruning's first example)."""
    import torch_pruning as tp

    importance = tp.importance.MagnitudeImportance(p=2)
    return _torch_pruning(request, tp.pruner.BasePruner, importance, global_pruning=False)


def torch_pruning_group_norm(request: Request) -> tuple[nn.Module, int]:
    """Prune all layers by one ranking of group norms (its benchmark on CIFAR), without sparse training."""
    import torch_pruning as tp

    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return _torch_pruning(request, tp.pruner.GroupNormPruner, importance, global_pruning=True)


def kirigami(request: Request) -> tuple[nn.Module, int]:
    """Bisect torch-kirigami's budget of parameters to the largest network within the wanted MACs."""
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import Greedy, GroupMagnitude, ParameterBudget, Pruner

    model, plain = request.model, copy.deepcopy(request.model)
    pruner = Pruner(model, graph=DependencyGraph.build(model, args=(request.example,)))
    space = pruner.discover_candidates()
    dense, params = macs(model, request.example), sum(p.numel() for p in model.parameters())
    best, low, high = None, 0.0, 1.0
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        budget = ParameterBudget(max_params=int(share * params))
        plan = pruner.plan(space, budget=budget, strategy=Greedy(GroupMagnitude(p=2)))
        smaller, _ = Pruner(copy.deepcopy(model)).apply(plan)
        if macs(smaller, request.example) <= request.macs_ratio * dense:
            best, low = smaller, share
        else:
            high = share
    assert best is not None, "no budget of parameters is small enough"
    return _without_its_classes(best, plain, request.example), BISECTIONS


def _without_its_classes(cut: nn.Module, plain: nn.Module, example: Tensor) -> nn.Module:
    """Move what a peer has cut into a copy of the dense network, which can be read where the peer is not."""
    sizes = ("in_channels", "out_channels", "groups", "num_features", "in_features", "out_features")
    for name, module in cut.named_modules():
        own = plain.get_submodule(name)
        own._parameters, own._buffers = module._parameters, module._buffers
        vars(own).update({key: value for key, value in vars(module).items() if key in sizes})
    torch.testing.assert_close(plain.eval()(example), cut.eval()(example))
    return plain


PEERS: dict[str, tuple[str, Callable[[Request], tuple[nn.Module, int]]]] = {
    "FastNAS": ("nvidia-modelopt", fastnas),
    "Torch-Pruning, BasePruner": ("torch-pruning", torch_pruning_base),
    "Torch-Pruning, GroupNormPruner": ("torch-pruning", torch_pruning_group_norm),
    "torch-kirigami": ("torch-kirigami", kirigami),
}
"""Name of the package, and how it cuts a network to a size."""


def torch_pruning_at_random(model: nn.Module, inputs: tuple[Tensor, ...], heads: Sequence[str]) -> nn.Module:
    """Let Torch-Pruning remove 30 % of every layer, chosen at random, so that importance plays no part."""
    import torch_pruning as tp

    tp.pruner.BasePruner(
        model,
        inputs[0] if len(inputs) == 1 else inputs,
        importance=tp.importance.RandomImportance(),
        pruning_ratio=0.3,
        ignored_layers=[model.get_submodule(name) for name in heads],
    ).step()
    return model


def fastnas_at_random(model: nn.Module, inputs: tuple[Tensor, ...], heads: Sequence[str]) -> nn.Module:
    """Let FastNAS sort the channels and take one of its sub-networks; it finds the outputs itself."""
    import modelopt.torch.nas as nas
    from modelopt.torch.nas.utils import sample, sort_parameters

    model = nas.convert(model, mode=[("fastnas", _fastnas_rules())])
    sort_parameters(model)
    sample(model)
    return _without_modelopt(nas.export(model))


def kirigami_at_random(model: nn.Module, inputs: tuple[Tensor, ...], heads: Sequence[str]) -> nn.Module:
    """Let torch-kirigami remove 30 % of the channels of every layer; it protects the outputs itself."""
    from torch_kirigami import DependencyGraph
    from torch_kirigami.pruning import ChannelRatio, Greedy, GroupMagnitude, Pruner

    pruner = Pruner(model, graph=DependencyGraph.build(model, args=inputs))
    space = pruner.discover_candidates()
    return pruner.prune(space, budget=ChannelRatio(0.7), strategy=Greedy(GroupMagnitude(p=2)))[0]


AT_RANDOM = {
    "FastNAS": fastnas_at_random,
    "Torch-Pruning": torch_pruning_at_random,
    "torch-kirigami": kirigami_at_random,
}
"""Cuts of about 30 % of the filters, for checking what is computed afterwards."""


def macs(model: nn.Module, example: Tensor) -> int:
    """Count the multiply-accumulates of one example, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(example)
    return counter.get_total_flops() // 2 // len(example)


def _torch_pruning(
    request: Request, pruner: Any, importance: Any, *, global_pruning: bool
) -> tuple[nn.Module, int]:
    """Prune step by step until the MACs are reached.

    Torch-Pruning cannot follow channels through padding, as in shortcuts of option A. If the network does
    not run any more, it is pruned again with all layers left out whose channels are added up.
    """
    dense = macs(request.model, request.example)
    for spared in ([], _residual(request.model)):
        model = copy.deepcopy(request.model)
        ignored = [model.get_submodule(name) for name in (*request.heads, *spared)]
        steps = pruner(
            model,
            request.example,
            importance=importance,
            global_pruning=global_pruning,
            pruning_ratio=1.0,
            iterative_steps=STEPS,
            ignored_layers=ignored,
        )
        try:
            for step in range(1, STEPS):
                steps.step()
                if macs(model, request.example) <= request.macs_ratio * dense:
                    return model, step
        except RuntimeError:
            if spared:
                raise
    raise ValueError(f"it stays above {request.macs_ratio:.0%} of the MACs")


def _residual(model: nn.Module) -> list[str]:
    """Name the convolutions of a CIFAR ResNet whose channels are added up."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return [name for name in names if name == "conv1" or name.endswith(".conv2")]


def _fastnas_rules() -> dict[str, Any]:
    """Return FastNAS's own settings with a smaller divisor."""
    from modelopt.torch.prune.fastnas import FastNASConfig

    rules = FastNASConfig().model_dump()
    for by_name in rules.values():
        for rule in (by_name or {}).values():
            for key in ("channel_divisor", "feature_divisor"):
                if rule and key in rule:
                    rule[key] = DIVISOR
    return rules


def _without_modelopt(model: nn.Module) -> nn.Module:
    """Take away what ModelOpt notes on the network, so that it can be loaded without ModelOpt."""
    for module in model.modules():
        for name in [name for name in vars(module) if "modelopt" in name]:
            delattr(module, name)
    return model


def answer(request: Request) -> dict[str, Any]:
    """Let a peer cut a network."""
    package, cut = PEERS[request.peer]
    began = time.process_time()
    try:
        model, measured = cut(request)
    except Exception as error:  # what a peer cannot do is a result
        return {"problem": f"{type(error).__name__}: {error}"[:200]}
    return {
        "model": model.eval(),
        "seconds": time.process_time() - began,
        "evaluations": measured,
        "version": importlib.metadata.version(package),
    }


def main() -> None:
    """Answer a request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("request", type=Path)
    parser.add_argument("response", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    request = Request(**torch.load(args.request, weights_only=False))  # written by peers.py
    torch.save(answer(request), args.response)


if __name__ == "__main__":
    main()
