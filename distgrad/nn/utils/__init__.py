"""torch.nn.utils: what one does to parameters and gradients. A page of names; nothing is defined here."""

from .._clip_grad import clip_grad_norm_ as clip_grad_norm_
from .._clip_grad import clip_grad_value_ as clip_grad_value_
from .._clip_grad import clip_grads_with_norm_ as clip_grads_with_norm_
from .._clip_grad import get_total_norm as get_total_norm
from .._vectors import parameters_to_vector as parameters_to_vector
from .._vectors import vector_to_parameters as vector_to_parameters
from .._weight_norm import remove_spectral_norm as remove_spectral_norm
from .._weight_norm import remove_weight_norm as remove_weight_norm
from .._weight_norm import spectral_norm as spectral_norm
from .._weight_norm import weight_norm as weight_norm
from . import rnn as rnn
