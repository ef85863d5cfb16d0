"""Learning-rate schedules under torch's names."""

from ._plateau import ReduceLROnPlateau as ReduceLROnPlateau
from ._schedule import LRScheduler as LRScheduler
from ._schedules_composed import ChainedScheduler as ChainedScheduler
from ._schedules_composed import SequentialLR as SequentialLR
from ._schedules_cosine import CosineAnnealingLR as CosineAnnealingLR
from ._schedules_cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from ._schedules_cyclic import CyclicLR as CyclicLR
from ._schedules_cyclic import OneCycleLR as OneCycleLR
from ._schedules_plain import ConstantLR as ConstantLR
from ._schedules_plain import ExponentialLR as ExponentialLR
from ._schedules_plain import LambdaLR as LambdaLR
from ._schedules_plain import LinearLR as LinearLR
from ._schedules_plain import MultiplicativeLR as MultiplicativeLR
from ._schedules_plain import MultiStepLR as MultiStepLR
from ._schedules_plain import PolynomialLR as PolynomialLR
from ._schedules_plain import StepLR as StepLR

_LRScheduler = LRScheduler  # torch's older name
