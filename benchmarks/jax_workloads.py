"""The workloads of `distgrad/bench/_workloads.py` in JAX: the same sizes, losses and optimizers, one jitted step each.

A program is (parameters, loss, update): `loss(parameters)` on data that it holds, and `update(parameters, state,
gradients)`. Parameters are nested dicts and lists of arrays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Program(NamedTuple):
    """What a jitted step is made of."""

    parameters: Any
    loss: Callable[[Any], Any]
    state: Any
    update: Callable[[Any, Any, Any], Any]


class Random:
    """Fresh keys, one after another."""

    def __init__(self) -> None:
        self._key = jax.random.key(0)

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        """Normally distributed numbers."""
        self._key, key = jax.random.split(self._key)
        return scale * jax.random.normal(key, shape)

    def integers(self, limit: int, *shape: int) -> Any:
        """Whole numbers below `limit`."""
        self._key, key = jax.random.split(self._key)
        return jax.random.randint(key, shape, 0, limit)


# ---- optimizers ------------------------------------------------------------------------------------------------------


def adam(rate: float, decay: float = 0.0) -> tuple[Callable[[Any], Any], Callable[[Any, Any, Any], Any]]:
    """Adam (Kingma and Ba 2014), with decoupled weight decay where there is one; (start, update)."""

    def start(parameters: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        return zeros, zeros, jnp.zeros((), jnp.int32)

    def update(parameters: Any, state: Any, gradients: Any) -> Any:
        first, second, count = state
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        a, b = 1 - 0.9**count, 1 - 0.999**count

        def move(p: Any, m: Any, v: Any) -> Any:
            return p * (1 - rate * decay) - rate * (m / a) / (jnp.sqrt(v / b) + 1e-8)

        return jax.tree.map(move, parameters, first, second), (first, second, count)

    return start, update


def sgd(rate: float, momentum: float = 0.0, decay: float = 0.0) -> tuple[Callable[[Any], Any], Callable[..., Any]]:
    """Gradient descent as torch has it; (start, update)."""

    def start(parameters: Any) -> Any:
        return jax.tree.map(jnp.zeros_like, parameters) if momentum else ()

    def update(parameters: Any, state: Any, gradients: Any) -> Any:
        gradients = jax.tree.map(lambda p, g: g + decay * p, parameters, gradients) if decay else gradients
        if momentum:
            state = jax.tree.map(lambda m, g: momentum * m + g, state, gradients)
            gradients = state
        return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), state

    return start, update


# ---- layers ----------------------------------------------------------------------------------------------------------


def linear(random: Random, inputs: int, outputs: int, bias: bool = True) -> dict[str, Any]:
    """Parameters of a dense layer."""
    made = {"w": random.normal(inputs, outputs, scale=inputs**-0.5)}
    return {**made, "b": jnp.zeros(outputs)} if bias else made


def dense(p: Any, x: Any) -> Any:
    """A dense layer."""
    return x @ p["w"] + p["b"] if "b" in p else x @ p["w"]


def convolution(x: Any, w: Any, stride: int = 1) -> Any:
    """A convolution of odd kernel, padded; x is (N, H, W, C), w is (kh, kw, C, D)."""
    pad = [(w.shape[0] // 2, w.shape[0] // 2), (w.shape[1] // 2, w.shape[1] // 2)]
    return jax.lax.conv_general_dilated(x, w, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: Any) -> Any:
    """The maximum of 2 x 2."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def normalised(x: Any, p: Any, axes: int | tuple[int, ...]) -> Any:
    """Mean 0 and variance 1 over the axes, then scale and shift: layer norm, or batch norm in training."""
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p["scale"] + p["shift"]


def norm(width: int) -> dict[str, Any]:
    """Parameters of a normalisation."""
    return {"scale": jnp.ones(width), "shift": jnp.zeros(width)}


def cross_entropy(scores: Any, targets: Any) -> Any:
    """The mean over all rows."""
    scores = scores.reshape(-1, scores.shape[-1])
    chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), targets.reshape(-1, 1), 1)
    return -chosen.mean()


def program(parameters: Any, loss: Callable[[Any], Any], optimizer: Any) -> Program:
    """A program with the state that its optimizer starts from."""
    start, update = optimizer
    return Program(parameters, loss, start(parameters), update)


# ---- workloads -------------------------------------------------------------------------------------------------------


def tiny(random: Random) -> Program:
    """A perceptron of 1,185 parameters."""
    layers = [linear(random, *sizes) for sizes in ((2, 32), (32, 32), (32, 1))]
    x, y = random.normal(32, 2), random.normal(32, 1)

    def loss(p: Any) -> Any:
        h = jnp.tanh(dense(p[1], jnp.tanh(dense(p[0], x))))
        return ((dense(p[2], h) - y) ** 2).mean()

    return program(layers, loss, sgd(1e-2))


def mlp(random: Random) -> Program:
    """Three dense layers."""
    layers = [linear(random, *sizes) for sizes in ((784, 512), (512, 512), (512, 10))]
    x, y = random.normal(128, 784), random.integers(10, 128)

    def loss(p: Any) -> Any:
        h = jax.nn.relu(dense(p[1], jax.nn.relu(dense(p[0], x))))
        return cross_entropy(dense(p[2], h), y)

    return program(layers, loss, adam(1e-3))


def cnn(random: Random) -> Program:
    """Two convolutions with pooling."""
    parameters = {
        "c1": random.normal(3, 3, 3, 16, scale=0.2),
        "b1": jnp.zeros(16),
        "c2": random.normal(3, 3, 16, 32, scale=0.1),
        "b2": jnp.zeros(32),
        "out": linear(random, 32 * 8 * 8, 10),
    }
    x, y = random.normal(100, 32, 32, 3), random.integers(10, 100)

    def loss(p: Any) -> Any:
        h = pool(jax.nn.relu(convolution(x, p["c1"]) + p["b1"]))
        h = pool(jax.nn.relu(convolution(h, p["c2"]) + p["b2"]))
        return cross_entropy(dense(p["out"], h.reshape(100, -1)), y)

    return program(parameters, loss, adam(1e-3))


def resnet(random: Random) -> Program:
    """ResNet-20; running means, which training does not read, are left out, in JAX's favour."""

    def unit(kernel: int, inputs: int, outputs: int) -> dict[str, Any]:
        scale = (2 / (kernel * kernel * inputs)) ** 0.5
        return {"w": random.normal(kernel, kernel, inputs, outputs, scale=scale), "n": norm(outputs)}

    def apply(p: Any, x: Any, stride: int = 1) -> Any:
        return normalised(convolution(x, p["w"], stride), p["n"], (0, 1, 2))

    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    blocks = [
        {"a": unit(3, i, o), "b": unit(3, o, o), **({} if i == o else {"skip": unit(1, i, o)})} for i, o, _ in widths
    ]
    parameters = {"stem": unit(3, 3, 16), "blocks": blocks, "out": linear(random, 64, 10)}
    images, y = random.normal(32, 32, 32, 3), random.integers(10, 32)

    def loss(p: Any) -> Any:
        x = jax.nn.relu(apply(p["stem"], images))
        for block, (_, _, stride) in zip(p["blocks"], widths, strict=True):
            h = apply(block["b"], jax.nn.relu(apply(block["a"], x, stride)))
            x = jax.nn.relu(h + (apply(block["skip"], x, stride) if "skip" in block else x))
        return cross_entropy(dense(p["out"], x.mean((1, 2))), y)

    return program(parameters, loss, sgd(0.1, 0.9, 1e-4))


def gpt(random: Random) -> Program:
    """A decoder of four blocks of width 256 on 8 sequences of 128 tokens."""
    width, heads, depth, length, vocabulary, batch = 256, 4, 4, 128, 256, 8
    blocks = [
        {
            "n1": norm(width),
            "n2": norm(width),
            "qkv": linear(random, width, 3 * width),
            "out": linear(random, width, width),
            "up": linear(random, width, 4 * width),
            "down": linear(random, 4 * width, width),
        }
        for _ in range(depth)
    ]
    parameters = {
        "token": random.normal(vocabulary, width),
        "position": random.normal(length, width),
        "blocks": blocks,
        "norm": norm(width),
        "head": linear(random, width, vocabulary, bias=False),
    }
    tokens, y = random.integers(vocabulary, batch, length), random.integers(vocabulary, batch, length)

    def loss(p: Any) -> Any:
        x = p["token"][tokens] + p["position"]
        for block in p["blocks"]:
            parts = dense(block["qkv"], normalised(x, block["n1"], -1)).reshape(batch, length, 3, heads, -1)
            q, k, v = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
            y_ = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(batch, length, width)
            x = x + dense(block["out"], y_)
            h = jax.nn.gelu(dense(block["up"], normalised(x, block["n2"], -1)), approximate=False)
            x = x + dense(block["down"], h)
        return cross_entropy(dense(p["head"], normalised(x, p["norm"], -1)), y)

    return program(parameters, loss, adam(3e-4, 1e-2))


def lstm(random: Random) -> Program:
    """A character model: an LSTM of width 256 over 64 steps."""
    characters, inputs, width, steps, batch = 128, 128, 256, 64, 32
    parameters = {
        "embed": random.normal(characters, inputs),
        "in": linear(random, inputs, 4 * width),
        "state": linear(random, width, 4 * width),
        "out": linear(random, width, characters),
    }
    text, y = random.integers(characters, batch, steps), random.integers(characters, batch, steps)

    def loss(p: Any) -> Any:
        x = dense(p["in"], p["embed"][text]).transpose(1, 0, 2)  # (T, N, 4 width)

        def cell(carry: Any, x_t: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(x_t + dense(p["state"], h), 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((batch, width))
        _, states = jax.lax.scan(cell, (zeros, zeros), x)
        return cross_entropy(dense(p["out"], states.transpose(1, 0, 2)), y)

    return program(parameters, loss, adam(1e-3))


WORKLOADS = {"tiny": tiny, "mlp": mlp, "cnn": cnn, "resnet": resnet, "gpt": gpt, "lstm": lstm}
