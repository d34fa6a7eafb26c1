"""Cut CamVid into an image folder of 32x32 patches of classes, as data that no agent was trained on.

    python benchmarks/camvid_patches.py camvid-240x180.tar camvid-patches

A patch belongs to the class of its centre, which has to cover at least 60 % of it. The splits are CamVid's
own, so no frame is in two of them. Classes that are too rare in one of them are left out, frequent ones are
thinned out by chance. Writes ``train/<class>/*.png``, ``val`` and ``test``.
"""

import argparse
import io
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from camvid import CLASSES, VOID
from PIL import Image

SIDE = 32
STRIDE = 8
"""Pixels between neighbouring patches, which overlap."""

COVERED = 0.6
"""Share of a patch that its class has to cover."""

MOST = {"train": 1200, "val": 400, "test": 500}
"""Patches of a class in each split."""

LEAST = 300
"""Patches that a class needs in each split."""

SEED = 0

Patches = dict[int, list[np.ndarray]]
"""Patches (32, 32, 3) uint8 by class."""


def patches(image: np.ndarray, mask: np.ndarray) -> Patches:
    """Return the patches of a frame (H, W, 3) that have a class, from its mask (H, W)."""
    found: Patches = defaultdict(list)
    for y in range(0, mask.shape[0] - SIDE + 1, STRIDE):
        for x in range(0, mask.shape[1] - SIDE + 1, STRIDE):
            window = np.s_[y : y + SIDE, x : x + SIDE]
            centre = mask[y + SIDE // 2, x + SIDE // 2]
            if centre != VOID and (mask[window] == centre).mean() >= COVERED:
                found[int(centre)].append(image[window])
    return found


def read(archive: tarfile.TarFile, name: str) -> np.ndarray:
    """Read an image of the archive."""
    member = archive.extractfile(name)
    if member is None:
        raise SystemExit(f"{name} in {archive.name} is not a file; give CamVid with <split>/images and masks")
    return np.asarray(Image.open(io.BytesIO(member.read())))


def all_patches(tar: Path) -> dict[str, Patches]:
    """Return the patches of each split."""
    splits: dict[str, Patches] = {split: defaultdict(list) for split in MOST}
    with tarfile.open(tar) as archive:
        for name in sorted(archive.getnames()):
            split, _, file = name.partition("/masks/")
            if not file:
                continue
            image = f"{split}/images/{Path(file).stem}.jpg"
            for label, own in patches(read(archive, image), read(archive, name)).items():
                splits[split][label] += own
    return splits


def main() -> None:
    """Write the folder and print the number of patches."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tar", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()

    splits = all_patches(args.tar)
    for label, name in enumerate(CLASSES):
        counts = {split: len(own[label]) for split, own in splits.items()}
        is_rare = min(counts.values()) < LEAST
        print(f"{name}: {'left out, ' if is_rare else ''}{counts}")
        for split, own in splits.items():
            if is_rare:
                continue
            folder = args.folder / split / name
            folder.mkdir(parents=True, exist_ok=True)
            order = np.random.default_rng(SEED).permutation(counts[split])
            for k in order[: MOST[split]]:
                Image.fromarray(own[label][k]).save(folder / f"{k:06d}.png")


if __name__ == "__main__":
    main()
