"""Train a dense network with the trainer that recovers pruned ones.

    python benchmarks/dense.py vgg16 --data cifar10-folder --weights vgg16-cifar10.safetensors --out
    vgg16-longer.safetensors --teacher resnet56=resnet56-cifar10.safetensors

With a teacher, the network learns from its outputs and the labels (Hinton et al. 2015, arXiv 1503.02531).
``val`` is not used in training, so that candidates can be measured on it. The accuracy on test is printed at
the end and is used for nothing else. The same command resumes an interrupted training.
"""

import argparse
import time
from pathlib import Path

from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import measure

TEACHERS_SHARE = 0.9
"""Weight of the distillation loss with a teacher."""


def main() -> None:
    """Train, save and measure the network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="data set, as for `secateur prune`")
    parser.add_argument(
        "--data-root", type=Path, default=Path("data"), help="folder of torchvision's data sets"
    )
    parser.add_argument("--weights", help="initial weights; random by default")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--teacher", metavar="MODEL=FILE", help="teacher trained on the same data, NAME=FILE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file, written after each epoch")
    args = parser.parse_args()

    augment = "flip-crop" if Path(args.data).is_dir() else "auto"
    task = load_task(DataConfig(data=args.data, augment=augment, data_root=args.data_root), seed=args.seed)
    model = build_dense_network(args.model, task, args.weights, seed=args.seed)
    print(f"before: {measure(model, task, 'test').accuracy:.2f} % on test", flush=True)
    began = time.perf_counter()

    def note(progress: Progress) -> None:
        write_tensors(args.out, model.state_dict())
        taken = time.perf_counter() - began
        print(f"epoch {progress.epoch}: loss {progress.loss:.4f}, {taken:.0f} s", flush=True)

    teacher, share = None, 0.0
    if args.teacher:
        name, weights = args.teacher.split("=", 1)
        teacher, share = build_dense_network(name, task, weights, seed=args.seed), TEACHERS_SHARE
    config = RecoveryConfig(epochs=args.epochs, learning_rate=args.learning_rate, distillation_weight=share)
    checkpoint = Checkpoint(args.out.with_suffix(".checkpoint"))
    finetune(model, task, config, teacher=teacher, seed=args.seed, checkpoint=checkpoint, on_epoch=note)
    print(f"after: {measure(model, task, 'test').accuracy:.2f} % on test", flush=True)


if __name__ == "__main__":
    main()
