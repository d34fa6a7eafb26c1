from .masks import Masks as Masks
from .masks import apply_masks as apply_masks
from .masks import keep_masks as keep_masks
from .masks import remove_masks as remove_masks
from .masks import set_masks as set_masks
from .masks import sparsity as sparsity
