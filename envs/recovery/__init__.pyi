from .batchnorm import reestimate_batchnorm as reestimate_batchnorm
from .callbacks import Callback as Callback
from .callbacks import Progress as Progress
from .compensation import Compensation as Compensation
from .config import RecoveryConfig as RecoveryConfig
from .finetuning import finetune as finetune
