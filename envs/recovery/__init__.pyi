from .batchnorm import reestimate_batchnorm as reestimate_batchnorm
from .compensation import Compensation as Compensation
from .config import RecoveryConfig as RecoveryConfig
from .finetuning import finetune as finetune
