"""The published networks that must be traced exactly: torchvision's, and timm's where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torchvision
from torch import nn

from secateur.envs.modules.reparametrization import remove_reparametrizations
from support.networks import Architecture

# Transformers, and a network that takes 5 GB in float64, several times over (exact when tried by hand).
_LEFT_OUT = ("vit_", "swin_", "maxvit", "regnet_y_128gf")


def classifiers() -> list[Architecture]:
    """List torchvision's classifiers that are CNNs."""
    found = []
    for name in torchvision.models.list_models(module=torchvision.models):
        if not name.startswith(_LEFT_OUT):
            more: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
            build = partial(torchvision.models.get_model, name, weights=None, num_classes=10, **more)
            found.append(Architecture(name, build, (3, 299, 299) if name == "inception_v3" else (3, 64, 64)))
    return found


def detector() -> nn.Module:
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn
    return build(weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64)


def dense_predictors() -> list[Architecture]:
    """List torchvision's segmentation networks and the backbone of a detector."""
    names = (
        "fcn_resnet50",
        "deeplabv3_resnet50",
        "deeplabv3_mobilenet_v3_large",
        "lraspp_mobilenet_v3_large",
    )
    settings: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 5}
    found = [Architecture(name, partial(torchvision.models.get_model, name, **settings)) for name in names]
    auxiliary = partial(torchvision.models.get_model, "fcn_resnet50", aux_loss=True, **settings)
    found.append(Architecture("fcn_resnet50 aux", auxiliary))
    found.append(Architecture("fasterrcnn_mobilenet_v3_large_fpn backbone", lambda: detector().backbone))
    return found


_TIMM = """
bat_resnext26ts botnet26t_256 convmixer_768_32 convnext_atto convnextv2_atto cs3darknet_s cs3sedarknet_l
cspdarknet53 cspresnet50 cspresnext50 darknet17 darknet53 darknetaa53 densenet121 densenetblur121d dla34
dla46x_c dla60_res2net dm_nfnet_f0 dpn48b dpn68 eca_nfnet_l0 eca_vovnet39b ecaresnet26t edgenext_xx_small
efficientnet_es efficientnet_lite0 efficientnetv2_rw_t efficientvit_b0 ese_vovnet19b_dw fasternet_t0
fastvit_t8 fbnetc_100 fbnetv3_b gc_efficientnetv2_rw_t gcresnet33ts gernet_s ghostnet_050 ghostnetv2_100
ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b0 hrnet_w18_small inception_next_atto inception_resnet_v2
inception_v4 lambda_resnet26t lcnet_050 legacy_seresnet18 legacy_seresnext26_32x4d legacy_xception
mambaout_femto mixnet_s mnasnet_small mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050
mobilenetv4_conv_small mobileone_s0 nf_regnet_b0 nf_resnet26 poolformer_s12 rdnet_tiny regnetv_040
regnetx_002 regnety_002 regnetz_b16 repghostnet_050 repvgg_a0 repvit_m0_9 res2net50_26w_4s res2next50
resnest14d resnest26d resnet10t resnet18d resnet26d resnet50_gn resnetaa50 resnetblur18 resnetv2_50
resnetv2_50x1_bit resnext26ts rexnet_100 rexnetr_100 selecsls42 selecsls42b semnasnet_075 seresnet50
shvit_s1 skresnet18 skresnext50_32x4d spnasnet_100 starnet_s1 tf_efficientnet_b0 tf_efficientnetv2_b0
tf_mixnet_s tinynet_e tresnet_m vgg11_bn vovnet39a xception41 xception65
"""

# Their standardised weights pin nearly everything until they are baked.
_STANDARDISED = ("dm_nfnet_f0", "eca_nfnet_l0", "nf_regnet_b0", "nf_resnet26", "resnetv2_50x1_bit")

_PIXELS = {
    "bat_resnext26ts": 256,
    "botnet26t_256": 256,
    "inception_resnet_v2": 128,
    "inception_v4": 128,
    "lambda_resnet26t": 256,
}


def timm_networks() -> list[Architecture]:
    """List CNNs of many families, where timm is installed."""
    try:
        import timm
    except ImportError:
        return []
    found = []
    for name in _TIMM.split():
        build = partial(timm.create_model, name, pretrained=False, num_classes=10)
        pixels = _PIXELS.get(name, 64)
        found.append(Architecture(f"timm {name}", build, (3, pixels, pixels)))
        if name in _STANDARDISED:
            found.append(Architecture(f"timm {name} baked", partial(_baked, build), (3, pixels, pixels)))
    return found


def _baked(build: Callable[[], nn.Module]) -> nn.Module:
    return remove_reparametrizations(build())


def published() -> list[Architecture]:
    """List everything from torchvision and timm."""
    return [*classifiers(), *dense_predictors(), *timm_networks()]
