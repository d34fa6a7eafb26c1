"""Operations that mix channels in a way that leaves none of them alone, and why."""

from __future__ import annotations

from ..propagation import Propagation
from .registry import RULES, Call

REASONS = {
    "_cdist_forward": "a distance is measured over these channels",
    "_euclidean_dist": "a distance is measured over these channels",
    "_scaled_dot_product_attention_math": "attention divides by the root of the number of channels",
    "_scaled_dot_product_flash_attention_for_cpu": "attention divides by the root of the number of channels",
    "_transformer_encoder_layer_fwd": "torch runs a whole transformer layer as one operation",
    "_native_multi_head_attention": "torch runs all of the attention as one operation",
    "_trilinear": "a bilinear layer multiplies each channel with all others",
    "masked_scatter": "channels are selected by a mask",
    "masked_select": "channels are selected by a mask",
    "torchvision::nms": "boxes are compared by all of their numbers",
    "torchvision::ps_roi_align": "each channel belongs to a place in the region",
    "torchvision::ps_roi_pool": "each channel belongs to a place in the region",
}


def refuse(propagation: Propagation, call: Call) -> None:
    """Pin all labels of the operands."""
    propagation.pin_all(call.operands, REASONS[call.name.rstrip("_")])


def attend(propagation: Propagation, call: Call) -> None:
    """Pin all labels of scaled dot-product attention, and count its two products."""
    refuse(propagation, call)
    query, key, value = (call[name] for name in ("query", "key", "value"))  # (..., length, channels)
    propagation.use_weights(
        query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1]), [], None
    )


RULES.update(dict.fromkeys(REASONS, refuse))
RULES.update({name: attend for name in REASONS if name.startswith("_scaled_dot_product")})
