"""Networks of packages that need not be installed; what is missing is left out."""

from __future__ import annotations

import importlib.util
import os
from functools import partial
from typing import Any

from torch import nn

from support.networks import Architecture

# (decoder, encoder, pixels); some decoders need maps that are larger than at 64 pixels.
_SEGMENTATION = [
    ("Unet", "resnet18", 64),
    ("Unet", "mobilenet_v2", 64),
    ("Unet", "efficientnet-b0", 64),
    ("Unet", "vgg11_bn", 64),
    ("UnetPlusPlus", "resnet18", 64),
    ("UnetPlusPlus", "timm-efficientnet-b0", 64),
    ("MAnet", "resnet18", 64),
    ("Linknet", "resnet18", 64),
    ("Linknet", "densenet121", 64),
    ("FPN", "mobilenet_v2", 64),
    ("FPN", "se_resnet50", 64),
    ("PSPNet", "resnet18", 64),
    ("PAN", "resnet18", 128),
    ("DeepLabV3", "resnet18", 64),
    ("DeepLabV3Plus", "mobilenet_v2", 64),
    ("UPerNet", "resnet18", 64),
    ("Segformer", "mobileone_s0", 64),
]

_SMALL: dict[str, Any] = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
_BACKBONE = {
    **_SMALL,
    "embedding_size": 16,
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}

# Class of the network and of its configuration, what differs from the defaults, pixels.
_HUGGING_FACE: list[tuple[str, str, dict[str, Any], int]] = [
    ("ResNetForImageClassification", "ResNetConfig", {**_SMALL, "embedding_size": 16}, 64),
    (
        "RegNetForImageClassification",
        "RegNetConfig",
        {**_SMALL, "embedding_size": 16, "groups_width": 8},
        64,
    ),
    ("MobileNetV1ForImageClassification", "MobileNetV1Config", {"depth_multiplier": 0.5}, 64),
    ("MobileNetV2ForImageClassification", "MobileNetV2Config", {}, 64),
    ("MobileNetV2ForSemanticSegmentation", "MobileNetV2Config", {}, 64),
    (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
        64,
    ),
    ("ConvNextForImageClassification", "ConvNextConfig", _SMALL, 64),
    ("ConvNextV2ForImageClassification", "ConvNextV2Config", _SMALL, 64),
    ("BitForImageClassification", "BitConfig", {**_SMALL, "embedding_size": 16, "num_groups": 4}, 64),
    ("MobileViTForImageClassification", "MobileViTConfig", {"hidden_sizes": [48, 64, 80]}, 64),
    ("MobileViTV2ForImageClassification", "MobileViTV2Config", {"width_multiplier": 0.5}, 64),
    ("LevitForImageClassification", "LevitConfig", {"hidden_sizes": [64, 96, 128], "image_size": 64}, 64),
    ("PoolFormerForImageClassification", "PoolFormerConfig", _SMALL, 64),
    ("PvtV2ForImageClassification", "PvtV2Config", {"hidden_sizes": [16, 32, 80, 128], "image_size": 64}, 64),
    ("CvtForImageClassification", "CvtConfig", {"embed_dim": [16, 48, 96], "depth": [1, 2, 3]}, 64),
    ("SegformerForSemanticSegmentation", "SegformerConfig", {"decoder_hidden_size": 64}, 64),
    ("HGNetV2ForImageClassification", "HGNetV2Config", {}, 64),
    ("SwiftFormerForImageClassification", "SwiftFormerConfig", {}, 64),
    ("FocalNetForImageClassification", "FocalNetConfig", {"embed_dim": 24, "image_size": 64}, 64),
    ("TextNetForImageClassification", "TextNetConfig", {}, 64),
]

_ULTRALYTICS = ["yolov5n.yaml", "yolov8n.yaml", "yolo11n.yaml"]


def installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def segmentation_models() -> list[Architecture]:
    """List networks of segmentation_models_pytorch."""
    if not installed("segmentation_models_pytorch"):
        return []
    return [
        Architecture(f"smp {decoder} {encoder}", partial(_smp, decoder, encoder), (3, pixels, pixels))
        for decoder, encoder, pixels in _SEGMENTATION
    ]


def _smp(decoder: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    model: nn.Module = getattr(smp, decoder)(encoder, encoder_weights=None, classes=3)
    return model


def hugging_face() -> list[Architecture]:
    """List networks of transformers, in small."""
    if not installed("transformers"):
        return []
    found = []
    for model, config, settings, pixels in _HUGGING_FACE:
        name = model.replace("ForImageClassification", "").replace("ForSemanticSegmentation", " segmentation")
        build = partial(_transformer, model, config, settings)
        found.append(Architecture(f"hf {name}", build, (3, pixels, pixels)))
    return [*found, Architecture("hf UperNet segmentation", _upernet)]


def _transformer(model: str, config: str, settings: dict[str, Any]) -> nn.Module:
    import transformers

    built: nn.Module = getattr(transformers, model)(getattr(transformers, config)(num_labels=5, **settings))
    return built


def _upernet() -> nn.Module:
    import transformers

    backbone = transformers.ResNetConfig(**_BACKBONE)
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=32, pool_scales=[1, 2], auxiliary_channels=16,
        auxiliary_in_channels=48, num_labels=5,
    )  # fmt: skip
    model: nn.Module = transformers.UperNetForSemanticSegmentation(config)
    return model


def ultralytics() -> list[Architecture]:
    """List detectors of ultralytics as they are."""
    if not installed("ultralytics"):
        return []
    return [Architecture(f"ultralytics {name}", partial(_yolo, name)) for name in _ULTRALYTICS]


def _yolo(name: str) -> nn.Module:
    os.environ.setdefault("YOLO_OFFLINE", "1")  # building must not look for newer versions
    from ultralytics.nn.tasks import DetectionModel

    model: nn.Module = DetectionModel(name, nc=3, verbose=False)
    return model
