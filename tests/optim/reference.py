"""The update rules as their papers state them, one parameter at a time and nothing fused: what the kernels must equal.

Each rule is a generator: it receives a gradient and the current step's parameters, and yields the new parameters.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Rule = Callable[[Array, Array, dict[str, Any], dict[str, Any]], Array]


def descend_along(g: Array, p: Array, o: dict[str, Any]) -> Array:
    """The gradient with the options `maximize` and (coupled) `weight_decay`."""
    g = -g if o.get("maximize") else g
    coupled = not o.get("decoupled_weight_decay")
    return g + o.get("weight_decay", 0) * p if coupled else g


def shrunk(p: Array, o: dict[str, Any]) -> Array:
    return p * (1 - o["lr"] * o.get("weight_decay", 0)) if o.get("decoupled_weight_decay") else p


def sgd(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = descend_along(g, p, o)
    if o.get("momentum"):
        s["b"] = o["momentum"] * s["b"] + (1 - o.get("dampening", 0)) * g if "b" in s else g
        g = g + o["momentum"] * s["b"] if o.get("nesterov") else s["b"]
    return p - o["lr"] * g


def adam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o.get("betas", (0.9, 0.999))
    g = descend_along(g, p, o)
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    v = s["v"]
    if o.get("amsgrad"):
        v = s["max"] = np.maximum(s.get("max", 0), v)
    m_hat, v_hat = s["m"] / (1 - b1 ** s["t"]), v / (1 - b2 ** s["t"])
    return shrunk(p, o) - o["lr"] * m_hat / (np.sqrt(v_hat) + o.get("eps", 1e-8))


def adamw(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    return adam(p, g, s, {"weight_decay": 0.01, **o, "decoupled_weight_decay": True})


def nadam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o.get("betas", (0.9, 0.999))
    g = descend_along(g, p, o)
    s["t"] = t = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (i * o.get("momentum_decay", 4e-3))) for i in (t, t + 1))
    s["product"] = s.get("product", 1.0) * mu
    m_hat = mu_next * s["m"] / (1 - s["product"] * mu_next) + (1 - mu) * g / (1 - s["product"])
    return shrunk(p, o) - o["lr"] * m_hat / (np.sqrt(s["v"] / (1 - b2**t)) + 1e-8)


def radam(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o.get("betas", (0.9, 0.999))
    g = descend_along(g, p, o)
    s["t"] = t = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    m_hat = s["m"] / (1 - b1**t)
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    if length > 5:
        r = np.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        m_hat = m_hat * r * np.sqrt(1 - b2**t) / (np.sqrt(s["v"]) + 1e-8)
    return shrunk(p, o) - o["lr"] * m_hat


def adamax(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    b1, b2 = o.get("betas", (0.9, 0.999))
    g = descend_along(g, p, o)
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["u"] = np.maximum(b2 * s.get("u", 0), np.abs(g) + 1e-8)
    return p - o["lr"] / (1 - b1 ** s["t"]) * s["m"] / s["u"]


def rmsprop(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    alpha = o.get("alpha", 0.99)
    g = descend_along(g, p, o)
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
    variance = s["v"]
    if o.get("centered"):
        s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
        variance = variance - s["m"] ** 2
    g = g / (np.sqrt(variance) + 1e-8)
    if o.get("momentum"):
        g = s["b"] = o["momentum"] * s.get("b", 0) + g
    return p - o["lr"] * g


def adagrad(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = descend_along(g, p, o)
    s["t"] = s.get("t", 0) + 1
    s["sum"] = s.get("sum", o.get("initial_accumulator_value", 0)) + g * g
    return p - o["lr"] / (1 + (s["t"] - 1) * o.get("lr_decay", 0)) * g / (np.sqrt(s["sum"]) + 1e-10)


def adadelta(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    rho, eps = o.get("rho", 0.9), 1e-6
    g = descend_along(g, p, o)
    s["v"] = rho * s.get("v", 0) + (1 - rho) * g * g
    delta = np.sqrt(s.get("d", 0) + eps) / np.sqrt(s["v"] + eps) * g
    s["d"] = rho * s.get("d", 0) + (1 - rho) * delta * delta
    return p - o["lr"] * delta


def rprop(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    g = descend_along(g, p, o)
    (minus, plus), (low, high) = o.get("etas", (0.5, 1.2)), o.get("step_sizes", (1e-6, 50))
    turn = np.sign(g * s.get("prev", 0 * g))
    sizes = s.get("sizes", np.full_like(p, o["lr"])) * np.where(turn > 0, plus, np.where(turn < 0, minus, 1))
    s["sizes"] = np.clip(sizes, low, high)
    s["prev"] = g = np.where(turn < 0, 0, g)
    return p - np.sign(g) * s["sizes"]


def asgd(p: Array, g: Array, s: dict[str, Any], o: dict[str, Any]) -> Array:
    lr, lambd, alpha, t0 = o["lr"], o.get("lambd", 1e-4), o.get("alpha", 0.75), o.get("t0", 1e6)
    g = descend_along(g, p, o)
    t = s["t"] = s.get("t", 0) + 1
    p = p * (1 - lambd * s.get("eta", lr)) - s.get("eta", lr) * g
    mu = s.get("mu", 1.0)
    s["ax"] = p if mu == 1 else s["ax"] + mu * (p - s["ax"])
    s["eta"], s["mu"] = lr / (1 + lambd * lr * t) ** alpha, 1 / max(1, t - t0)
    return p


RULES: dict[str, Rule] = {
    "SGD": sgd,
    "Adam": adam,
    "AdamW": adamw,
    "NAdam": nadam,
    "RAdam": radam,
    "Adamax": adamax,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "Adadelta": adadelta,
    "Rprop": rprop,
    "ASGD": asgd,
}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        {"maximize": True, "weight_decay": 0.1},
    ],
    "Adam": [
        {},
        {"weight_decay": 0.1, "maximize": True},
        {"amsgrad": True, "betas": (0.5, 0.6)},
        {"decoupled_weight_decay": True, "weight_decay": 0.2},
        {"eps": 0.1},
    ],
    "AdamW": [{}, {"amsgrad": True, "weight_decay": 0.3}, {"maximize": True}],
    "NAdam": [{}, {"weight_decay": 0.1, "momentum_decay": 0.01}, {"decoupled_weight_decay": True, "weight_decay": 0.1}],
    "RAdam": [{}, {"betas": (0.8, 0.9), "weight_decay": 0.1}, {"betas": (0.8, 0.9), "maximize": True}],
    "Adamax": [{}, {"weight_decay": 0.1, "maximize": True}],
    "RMSprop": [{}, {"centered": True, "momentum": 0.5}, {"momentum": 0.9, "weight_decay": 0.1, "maximize": True}],
    "Adagrad": [{}, {"lr_decay": 0.5, "initial_accumulator_value": 0.1}, {"weight_decay": 0.1, "maximize": True}],
    "Adadelta": [{}, {"rho": 0.8, "weight_decay": 0.1}, {"maximize": True}],
    "Rprop": [{}, {"etas": (0.3, 1.5)}, {"step_sizes": (0.004, 0.02), "maximize": True}],
    "ASGD": [{}, {"t0": 2, "weight_decay": 0.1}, {"lambd": 0.1, "maximize": True}],
}
CASES = [(name, options) for name, all_options in OPTIONS.items() for options in all_options]
