"""Train the dense networks of the zoo with the project's own trainer.

    python benchmarks/zoo_dense.py --data cifar10=cifar10-folder --data-root mnist-folder --out zoo

Trains every network of ``zoo_networks.py`` on its data, from random weights, and writes
``NAME-DATA.safetensors`` and ``NAME-DATA.json``. The same command goes on where it was stopped. Data without
a folder are left out. No network sees val, on which candidates are measured: a tenth of train, or the
folder's own. The accuracy on test is for the tables and is used for nothing else.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import zoo_networks

from secateur.agent.procedures.data_config import DataConfig
from secateur.agent.procedures.loading import build_dense_network, load_task
from secateur.envs.cost.counts import cost
from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.tensor_files import write_tensors
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.checkpoint import Checkpoint
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.surgery.verification import trace_exactly
from secateur.envs.tasks import Task, measure

SEED = 0
"""Seed of the weights, the order of images and the split into train and val."""

EPOCHS = {"cifar10": 3, "mnist": 1, "camvid": 8}
"""Passes over the training images of each data set."""


DEPTHWISE = ("mobilenet", "shufflenet", "efficientnet")
"""Beginnings of the names of networks with depthwise convolutions."""


def data_config(data: str, folders: Mapping[str, str], root: Path) -> DataConfig:
    """Return the options of a data set: 32x32 pixels and the customary augmentation.

    Args:
        data: Name of the data set, of :data:`EPOCHS`.
        folders: Image folders by the name of the data set; MNIST has none.
        root: Folder of torchvision's data sets, for MNIST.
    """
    if data == "mnist":
        return DataConfig(data="mnist", data_root=root, image_size=32, device="cpu")
    augment = "flip-crop" if data == "cifar10" else "flip"
    return DataConfig(data=folders[data], augment=augment, device="cpu")


def weights_file(out: Path, network: str, data: str) -> Path:
    """Return the path of a dense network's weights."""
    return out / f"{network}-{data}.safetensors"


def train(network: str, data: str, task: Task, out: Path, epochs: int) -> None:
    """Train a network, unless its figures exist, and write its weights and figures."""
    weights = weights_file(out, network, data)
    report = weights.with_suffix(".json")
    if report.is_file():
        return
    model = build_dense_network(f"zoo_networks:{network}", task, None, seed=SEED)
    size = cost(trace_exactly(model, torch.zeros(2, *task.input_shape)))
    began = time.process_time()

    def note(progress: Progress) -> None:
        print(f"{network} {data} epoch {progress.epoch}: loss {progress.loss:.4f}", flush=True)

    checkpoint = Checkpoint(weights.with_suffix(".checkpoint"))
    # On a CPU the kernels of depthwise and grouped convolutions are slower in bfloat16.
    precision = "fp32" if network.startswith(DEPTHWISE) else "auto"
    recipe = replace(RecoveryConfig.from_scratch(epochs), precision=precision)
    finetune(model, task, recipe, seed=SEED, checkpoint=checkpoint, on_epoch=note)
    write_tensors(weights, model.state_dict())
    row = {
        "network": network,
        "data": data,
        "accuracy": measure(model, task, "test").accuracy,
        "val_accuracy": measure(model, task, "val").accuracy,
        "macs": size.macs,
        "params": size.params,
        "epochs": epochs,
        "seed": SEED,
        "cpu_seconds": round(time.process_time() - began),  # of the last process, if there were several
    }
    write_atomically(report, lambda path: path.write_text(json.dumps(row, indent=1) + "\n"))
    for path in (checkpoint.path, checkpoint.previous):
        path.unlink(missing_ok=True)
    print(json.dumps(row), flush=True)


def main() -> None:
    """Train what is missing, then print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="*", default=[], metavar="NAME=FOLDER", help="cifar10, camvid")
    parser.add_argument("--data-root", type=Path, help="folder of torchvision's MNIST")
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights")
    args = parser.parse_args()

    folders = dict(each.split("=", 1) for each in args.data)
    here = {*folders, *(["mnist"] if args.data_root else [])}
    args.out.mkdir(parents=True, exist_ok=True)
    pairs = [pair for pair in (*zoo_networks.TRAINING, *zoo_networks.HELD_OUT) if pair[1] in here]
    tasks: dict[str, Task] = {}
    for network, data in pairs:
        if data not in tasks:
            tasks[data] = load_task(data_config(data, folders, args.data_root), seed=SEED)
        train(network, data, tasks[data], args.out, EPOCHS[data])
    print("\n| network | data | MACs, M | parameters, k | accuracy, % |\n|---|---|---|---|---|")
    for network, data in pairs:
        row = json.loads(weights_file(args.out, network, data).with_suffix(".json").read_text())
        size = f"{row['macs'] / 1e6:.2f} | {row['params'] / 1e3:.1f}"
        print(f"| {network} | {data} | {size} | {row['accuracy']:.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
