"""Automatic differentiation: a dynamic graph of operations, and the backward pass through it."""

from . import function as function
from . import functional as functional
from ._anomaly import detect_anomaly as detect_anomaly
from ._anomaly import is_anomaly_check_nan_enabled as is_anomaly_check_nan_enabled
from ._anomaly import is_anomaly_enabled as is_anomaly_enabled
from ._anomaly import set_detect_anomaly as set_detect_anomaly
from ._engine import backward as backward
from ._engine import grad as grad
from ._function import Function as Function
from ._function import FunctionCtx as FunctionCtx
from ._function import once_differentiable as once_differentiable
from ._gradcheck import GradcheckError as GradcheckError
from ._gradcheck import gradcheck as gradcheck
from ._gradcheck import gradgradcheck as gradgradcheck
from ._mode import enable_grad as enable_grad
from ._mode import inference_mode as inference_mode
from ._mode import is_grad_enabled as is_grad_enabled
from ._mode import is_inference_mode_enabled as is_inference_mode_enabled
from ._mode import no_grad as no_grad
from ._mode import set_grad_enabled as set_grad_enabled
