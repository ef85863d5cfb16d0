"""Optimizers and learning-rate schedules under torch's names."""

from . import lr_scheduler as lr_scheduler
from ._adam import Adam as Adam
from ._adam import AdamW as AdamW
from ._adam_variants import Adamax as Adamax
from ._adam_variants import NAdam as NAdam
from ._adam_variants import RAdam as RAdam
from ._adaptive import Adadelta as Adadelta
from ._adaptive import Adagrad as Adagrad
from ._adaptive import RMSprop as RMSprop
from ._lbfgs import LBFGS as LBFGS
from ._matrix import Adafactor as Adafactor
from ._matrix import Muon as Muon
from ._optimizer import Optimizer as Optimizer
from ._rprop import ASGD as ASGD
from ._rprop import Rprop as Rprop
from ._sgd import SGD as SGD
from ._sparse import SparseAdam as SparseAdam
