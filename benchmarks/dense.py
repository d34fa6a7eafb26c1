"""Train a dense network on, with the trainer that recovers pruned ones.

    python benchmarks/dense.py vgg16 --data cifar10-folder --weights vgg16-cifar10.safetensors --out
    vgg16-longer.safetensors --teacher resnet56=resnet56-cifar10.safetensors

With a teacher its answers are learned beside the labels (Hinton et al. 2015, arXiv 1503.02531). ``val`` stays
out of training, so that candidates can be measured on it; the accuracy on test is printed at the end and
chooses nothing. A training that was stopped goes on when the same command is given again.
"""

import argparse
import time
from pathlib import Path

from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import Progress, finetune
from secateur.envs.tasks import measure

TEACHERS_SHARE = 0.9
"""Of the loss, where there is a teacher."""


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="as of `secateur prune`")
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="likewise")
    parser.add_argument("--weights", help="to go on from; without it they are random")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--teacher", metavar="MODEL=FILE", help="a better network on the same data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file, written after every epoch")
    asked = parser.parse_args()

    task = load_task(DataConfig(data=asked.data, data_root=asked.data_root), seed=asked.seed)
    model = build_dense_network(asked.model, task, asked.weights, seed=asked.seed)
    print(f"before: {measure(model, task, 'test').accuracy:.2f} % on test", flush=True)
    began = time.perf_counter()

    def note(progress: Progress) -> None:
        write_tensors(asked.out, model.state_dict())
        taken = time.perf_counter() - began
        print(f"epoch {progress.epoch}: loss {progress.loss:.4f}, {taken:.0f} s", flush=True)

    teacher, share = None, 0.0
    if asked.teacher:
        name, weights = asked.teacher.split("=", 1)
        teacher, share = build_dense_network(name, task, weights, seed=asked.seed), TEACHERS_SHARE
    config = RecoveryConfig(asked.epochs, learning_rate=asked.learning_rate, distillation_weight=share)
    checkpoint = Checkpoint(asked.out.with_suffix(".checkpoint"))
    finetune(model, task, config, teacher=teacher, seed=asked.seed, checkpoint=checkpoint, on_epoch=note)
    print(f"after: {measure(model, task, 'test').accuracy:.2f} % on test", flush=True)


if __name__ == "__main__":
    main()
