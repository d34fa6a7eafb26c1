"""Prune a whole detector of Ultralytics, and recover it by its own losses.

    pip install ultralytics
    python examples/ultralytics_detector.py

The images have bright squares and discs, as those of torchvision_detector.py.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision_detector import PIXELS, Detection
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.nms import non_max_suppression

import secateur


def build() -> DetectionModel:
    """Build the detector, untrained; yours is ``YOLO("mine.pt").model``."""
    detector = DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    detector.args = get_cfg()  # with the weights of its losses
    return detector


class YoloDetection(Detection):
    """Images with boxes, for the losses of a YOLO."""

    def batch(self, split: str, indices: Tensor, **given: Any) -> tuple[Tensor, dict[str, Any]]:
        """Return images, and their boxes as Ultralytics' losses want them: of all images in one tensor."""
        images, targets = super().batch(split, indices, **given)
        boxes = torch.cat([target["boxes"] for target in targets]) / PIXELS
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        return images, {
            "batch_idx": torch.arange(len(targets)).repeat_interleave(2).float(),  # two boxes an image
            "cls": torch.cat([target["labels"] for target in targets])[:, None].float() - 1,
            "bboxes": torch.cat([centres, sizes], 1),
            "targets": targets,
        }

    def training_loss(self, model: nn.Module, inputs: Tensor, targets: dict[str, Any]) -> Tensor:
        """Average the losses of boxes, classes and their distributions over the images."""
        losses, _ = model({"img": inputs, **targets})
        return losses.sum() / len(inputs)

    def statistics(self, outputs: tuple[Tensor, Any], targets: dict[str, Any]) -> Tensor:
        """Suppress boxes that overlap, and count the others."""
        kept = non_max_suppression(outputs[0], conf_thres=0.01, iou_thres=0.6, max_det=20)
        found = [
            {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long() + 1} for rows in kept
        ]
        return super().statistics(found, targets["targets"])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Train, prune into a folder, and recover."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/yolo"))
    parser.add_argument("--epochs", type=int, default=20, help="epochs before and after the cut")
    parser.add_argument("--images", type=int, default=256, help="images to train on")
    given = parser.parse_args(arguments)

    task = YoloDetection(given.images)
    torch.manual_seed(0)
    training: dict[str, Any] = {"epochs": given.epochs, "batch_size": 16, "optimiser": "adamw"}
    dense = secateur.recover(build(), task, learning_rate=2e-3, **training)
    result = secateur.prune(
        dense, task, target_macs=0.5, effort="quick", out=given.out, resume=True, **training
    )
    report = result.report
    print(f"AP50 {report['dense']['accuracy']:.1f} % dense, {report['pruned']['accuracy']:.1f} % pruned")
    print(f"{report['ratios']['macs']:.0%} of the MACs; the report is {given.out / 'report.html'}")
    return report


if __name__ == "__main__":
    main()
