"""Measure how fast and in how much memory images of a folder are read, beside torchvision's own way.

    python benchmarks/data.py --images 50000 --json data.json

Makes a folder of JPEGs of 256x256 pixels and reads it once in each way, in a fresh process. CPU seconds and
memory are those of the process and of all processes that read for it.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from secateur.envs.io.atomic_write import write_atomically
from secateur.envs.io.memory import keep_freed_memory
from secateur.envs.recovery.callbacks import Progress
from secateur.envs.recovery.config import RecoveryConfig
from secateur.envs.recovery.finetuning import finetune
from secateur.envs.tasks import ClassificationTask, get_task
from secateur.envs.tasks.passes import Pass, stream
from secateur.envs.tasks.read_ahead import default_workers

SIDE, CLASSES, BATCH = 224, 10, 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

REFERENCE = v2.Compose(
    [
        v2.RandomResizedCrop(SIDE),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)
"""Transforms of torchvision's reference training script for classification."""

OF_TENSORS = v2.Compose([REFERENCE.transforms[0], REFERENCE.transforms[1], *REFERENCE.transforms[3:]])
EVALUATION = v2.Compose([v2.Resize(256), v2.CenterCrop(SIDE), *REFERENCE.transforms[3:]])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=default_workers())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="JSON file for the rows")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = make_folder(Path(folder), args.images)
        rows = [measured(answer, way, root, args.workers, args.repeats) for way in WAYS]
        share = measured(answer_share, "", root, args.workers, args.repeats)["share"]
    print(f"{args.images:,} images, {args.workers} workers, {os.cpu_count()} cores\n")
    print("| way | images a CPU second | images a second | peak memory beyond the imports, MB |")
    print("|---|---|---|---|")
    for row in rows:
        per_cpu = f"{row['per_cpu_second']:.0f}"
        print(f"| {row['way']} | {per_cpu} | {row['per_second']:.0f} | {row['peak_mb']:.0f} |")
    print(f"\nOf the rate of the loader alone {share:.3f} reach the training step of a tiny network.")
    if args.json:
        made = {"images": args.images, "workers": args.workers, "cores": os.cpu_count(), "share": share}
        text = json.dumps({**made, "rows": rows}, indent=1) + "\n"
        write_atomically(args.json, lambda aside: aside.write_text(text))


def make_folder(root: Path, images: int) -> Path:
    """Write JPEGs of 256x256 pixels with the structure and the size in bytes of photographs."""
    generator = np.random.default_rng(0)
    for number in range(images):
        place = root / "train" / f"class{number % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        coarse, fine = (generator.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (8, 64))
        smooth, rough = (
            Image.fromarray(x).resize((256, 256), Image.Resampling.BICUBIC) for x in (coarse, fine)
        )
        Image.blend(smooth, rough, 0.25).save(place / f"{number}.jpg", quality=87)
    return root


def measured(answering: Callable[..., None], way: str, *given: Any) -> dict[str, Any]:
    """Measure in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    here, there = fresh.Pipe()
    process = fresh.Process(target=answering, args=(there, way, *given))
    process.start()
    row: dict[str, Any] = here.recv()
    process.join()
    return {"way": way, **row}


def answer(there: Connection, way: str, root: Path, workers: int, repeats: int) -> None:
    """Read all training images several times, and send the best figures and the memory of a pass."""
    begin()
    before = memory_of_processes()
    read = WAYS[way](root, workers)
    peak_mb = (peak_memory(read) - before) / 1e6
    passes = []
    for _ in range(repeats):
        cpu, began = cpu_seconds(), time.perf_counter()
        images = read()
        passes.append((images / (time.perf_counter() - began), images / (cpu_seconds() - cpu)))
    per_second, per_cpu_second = (max(column) for column in zip(*passes, strict=True))
    there.send({"per_second": per_second, "per_cpu_second": per_cpu_second, "peak_mb": peak_mb})


def peak_memory(read: Callable[[], int]) -> int:
    """Return the largest memory during a pass; looking at it takes CPU time, so this pass is not timed."""
    peak, finished = [memory_of_processes()], threading.Event()

    def watch() -> None:
        while not finished.wait(0.2):
            peak[0] = max(peak[0], memory_of_processes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    read()
    finished.set()
    watcher.join()
    return peak[0]


def answer_share(there: Connection, way: str, root: Path, workers: int, repeats: int) -> None:
    """Read images and train on them alternately, and send the median ratio of the speeds."""
    begin()
    task = task_of(root, workers, "never")
    model = nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(192, CLASSES))
    config = RecoveryConfig(epochs=1, batch_size=BATCH, distillation_weight=0.0)
    read, shares = passes_of(task), []
    for _ in range(repeats):
        steps: list[Progress] = []
        began = time.perf_counter()
        alone = read() / (time.perf_counter() - began)
        finetune(model, task, config, on_step=steps.append)
        shares.append(steps[-1].images_per_second / alone)
    there.send({"share": sorted(shares)[len(shares) // 2]})


def begin() -> None:
    """Set up the process as the command line does."""
    torch.set_num_threads(1)
    keep_freed_memory()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def memory_of_processes() -> int:
    """Return the bytes that this process and its children allocated; what they share is counted once."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has ended
            continue
        sizes = (
            line.split()[1] for line in text.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
        )
        total += 1024 * sum(map(int, sizes))
    return total


def counted(batches: Iterator[tuple[Tensor, Tensor]]) -> int:
    """Take all batches and count their images."""
    return sum(len(images) for images, _ in batches)


def task_of(root: Path, workers: int, in_memory: str, **options: Any) -> ClassificationTask:
    """Open the folder."""
    prepared = {} if "eval_transform" in options else {"image_size": SIDE, "augment": "flip-crop"}
    return get_task(
        str(root), root=root, val_fraction=0.01, in_memory=in_memory, workers=workers, **prepared, **options
    )


def passes_of(task: ClassificationTask) -> Callable[[], int]:
    """Return a function that reads the training images in a random order."""

    def read() -> int:
        order = torch.randperm(task.size("train"), generator=torch.Generator().manual_seed(0))
        return counted(stream(task, Pass("train", order.split(BATCH), augment=True)))

    return read


def of_torchvision(root: Path, workers: int) -> Callable[[], int]:
    """Return a function that reads the images as torchvision's reference training script does."""
    folder = ImageFolder(str(root / "train"), REFERENCE)
    loader = DataLoader(folder, batch_size=BATCH, shuffle=True, num_workers=workers)
    return lambda: counted(iter(loader))


WAYS: dict[str, Callable[[Path, int], Callable[[], int]]] = {
    "streamed": lambda root, workers: passes_of(task_of(root, workers, "never")),
    "streamed, the reference's transforms": lambda root, workers: passes_of(
        task_of(root, workers, "never", train_transform=OF_TENSORS, eval_transform=EVALUATION)
    ),
    "torchvision's reference loader": of_torchvision,
    "in memory": lambda root, workers: passes_of(task_of(root, workers, "always")),
}


if __name__ == "__main__":
    main()
