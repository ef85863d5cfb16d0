"""The base class of optimizers and hooks around the steps of all of them, under torch's name of the page."""

from ._optimizer import Optimizer as Optimizer
from ._optimizer import register_optimizer_step_post_hook as register_optimizer_step_post_hook
from ._optimizer import register_optimizer_step_pre_hook as register_optimizer_step_pre_hook
