"""Special functions, under torch.special's names."""

from .ops import erf as erf
from .ops import erfc as erfc
from .ops import exp2 as exp2
from .ops import expm1 as expm1
from .ops import log1p as log1p
from .ops import log_softmax as log_softmax
from .ops import logit as logit
from .ops import logsumexp as logsumexp
from .ops import ndtr as ndtr
from .ops import round as round
from .ops import sigmoid as expit  # noqa: F401
from .ops import sinc as sinc
from .ops import softmax as softmax
from .ops import xlogy as xlogy
