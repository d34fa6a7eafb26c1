"""Cut the backbone of an Ultralytics detector, and put it back.

    pip install ultralytics
    python examples/ultralytics_backbone.py             # random weights, nothing is downloaded
    python examples/ultralytics_backbone.py yolov8n.pt  # your weights

The detector then trains on as before: ``YOLO.train`` takes the cut network as it is.
"""

import argparse

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics import YOLO

import secateur
from secateur.envs.problem import weight_importance
from secateur.envs.surgery import PruningPlan


class Backbone(nn.Module):
    """The first layers of a detector; it returns what later layers read."""

    def __init__(self, layers: nn.Sequential, read: list[int]) -> None:
        super().__init__()
        self.layers, self.read = layers, read

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps that the rest of the detector reads."""
        x, outputs = images, []
        for k, layer in enumerate(self.layers):
            x = layer(x)
            if k in self.read:
                outputs.append(x)
        return outputs


def cut_backbone(detector: nn.Module, share: float) -> None:
    """Remove a share of the filters of each layer of the backbone, in place.

    Args:
        detector: The module of a YOLO, ``YOLO(...).model``.
        share: Share of each layer's filters, in (0, 1).
    """
    number = len(detector.yaml["backbone"])
    read = sorted({k for k in detector.save if k < number} | {number - 1})
    backbone = Backbone(detector.model[:number], read).eval()
    example = torch.zeros(2, 3, 64, 64)
    trace = secateur.trace(backbone, example)
    norms = weight_importance(backbone, trace)["l2"]
    plan = PruningPlan.from_masks(trace, [scores >= np.quantile(scores, share) for scores in norms])
    smaller = secateur.cut(backbone, plan, example=example)
    for k, layer in enumerate(smaller.layers):  # what else the detector notes on a layer comes along
        detector.model[k] = layer


def main(arguments: list[str] | None = None) -> YOLO:
    """Cut a third of each layer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="?", default="yolov8n.yaml")
    parser.add_argument("--share", type=float, default=0.3, help="share of each layer's filters that goes")
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    yolo = YOLO(given.weights)
    before = sum(p.numel() for p in yolo.model.parameters())
    cut_backbone(yolo.model, given.share)
    after = sum(p.numel() for p in yolo.model.parameters())
    print(f"parameters of the detector: {before:,} before, {after:,} after")
    yolo.model.eval()(torch.zeros(1, 3, 64, 64))  # it runs
    return yolo


if __name__ == "__main__":
    main()
