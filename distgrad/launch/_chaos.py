"""`--chaos`: faults that strike a rank at a step, to see how a program, or distgrad itself, takes them.

    python -m distgrad.launch -n 4 --chaos "kill@rank=2,step=17; stall@rank=1,step=5,seconds=3" train.py

A fault is `kind@key=value,...`; a semicolon stands between two. Kinds:

    kill, segv, term, stop    the rank gets SIGKILL, a segmentation fault, SIGTERM, SIGSTOP
    exit, leave               os._exit(code), sys.exit(code); code=1 unless given
    exc, oom, interrupt       ChaosError, MemoryError, KeyboardInterrupt is raised
    stall                     the rank sleeps for seconds=...
    slow                      from its step on, what comes before a backward pass takes factor=... times as long
    nan                       one gradient gets a NaN before it is communicated

Keys: `rank` (a number, `*` for all, `random`), `step` (a number, `random(1,20)`), `seed` (needed for random: all ranks
must draw the same), `phase`, and `restart` (which start of the job under --max-restarts; 0, the first, unless given).

A step is one call of `optimizer.step()` by this rank, whichever the optimizer, counted from 1; step k is what happens
from the end of the call before it. Where in it a fault strikes is its phase: `forward` (at the first operation that is
recorded), `backward` (at the start of the backward pass, before anything is communicated; the default) or `optimizer`
(before the update). Three phases have no step: `init` (before the ranks meet), `start` (before the script), `end`
(after it).
"""

import random
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import LaunchError

IN_A_STEP = ("forward", "backward", "optimizer")
OUTSIDE = ("init", "start", "end")
_COMMON = ("rank", "step", "seed", "phase", "restart")


class Fault(NamedTuple):
    """One fault of the plan; see the module for what the fields mean."""

    kind: str
    rank: int | None  # None: every rank, or the one that was drawn
    draw: int | None  # for a random rank; how many there are is not known here
    step: int  # 0 in a phase that has none
    phase: str
    restart: int
    value: float  # seconds, factor or code

    def __str__(self) -> str:
        step = f" of step {self.step}" if self.step else ""
        return f"{self.kind} in phase {self.phase}{step}"


class _Value(NamedTuple):
    """The number that a kind of fault has besides the common keys; without a default it must be given."""

    key: str
    default: float | None = None


_KINDS: dict[str, _Value | None] = {
    **dict.fromkeys(("kill", "segv", "term", "stop", "exc", "oom", "interrupt", "nan")),
    "exit": _Value("code", 1),
    "leave": _Value("code", 1),
    "stall": _Value("seconds"),
    "slow": _Value("factor"),
}


def read(text: str) -> tuple[Fault, ...]:
    """The faults that the text names, in its order.

    Raises:
        LaunchError: it is not in the form that the module describes.
    """
    faults = tuple(_fault(part.strip()) for part in text.split(";") if part.strip())
    if not faults:
        raise LaunchError(f'expected faults such as "kill@rank=2,step=17" after --chaos, got {text!r}')
    return faults


def _fault(text: str) -> Fault:
    name, _, rest = text.partition("@")
    if name not in _KINDS:
        raise LaunchError(f"expected a kind of fault ({', '.join(_KINDS)}) before the @ in --chaos, got {text!r}")
    value = _KINDS[name]
    given = _pairs(rest, text)
    allowed = (*_COMMON, value.key) if value else _COMMON
    for key in given:
        if key not in allowed:
            raise LaunchError(f"expected the keys {', '.join(allowed)} of {name} in --chaos, got {key!r} in {text!r}")
    phase = given.get("phase", "backward")
    if phase not in (*IN_A_STEP, *OUTSIDE):
        raise LaunchError(f"expected a phase of {', '.join((*IN_A_STEP, *OUTSIDE))} in --chaos, got {phase!r}")
    if name in ("nan", "slow") and phase != "backward":
        raise LaunchError(f"expected phase=backward, or no phase, for {name} in --chaos, got {phase!r}")
    dice = random.Random(_number(given["seed"], "seed", text)) if "seed" in given else None
    rank, draw = _rank(given, dice, text)
    step = _step(given, phase, dice, text)
    restart = _number(given.get("restart", "0"), "restart", text)
    return Fault(name, rank, draw, step, phase, restart, _number_of(value, given, text) if value else 0.0)


def _pairs(text: str, whole: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in re.split(r",(?![^()]*\))", text):  # not at the comma in random(1,20)
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise LaunchError(f"expected key=value after the @ in --chaos, got {part!r} in {whole!r}")
        if key in pairs:
            raise LaunchError(f"expected each key once in --chaos, got {key!r} twice in {whole!r}")
        pairs[key] = value
    return pairs


def _number(text: str, key: str, whole: str) -> int:
    if not text.isdecimal():
        raise LaunchError(f"expected a whole number for {key} in --chaos, got {text!r} in {whole!r}")
    return int(text)


def _rank(given: Mapping[str, str], dice: random.Random | None, text: str) -> tuple[int | None, int | None]:
    if "rank" not in given:
        raise LaunchError(f"expected rank=... (a number, * or random) in --chaos, got none in {text!r}")
    if given["rank"] == "*":
        return None, None
    if given["rank"] == "random":
        return None, _drawn(dice, 0, 2**30, text)
    return _number(given["rank"], "rank", text), None


def _step(given: Mapping[str, str], phase: str, dice: random.Random | None, text: str) -> int:
    if (phase in OUTSIDE) == ("step" in given):
        wanted = "no step" if phase in OUTSIDE else "step=... (a number from 1 on, or random(1,20))"
        raise LaunchError(f"expected {wanted} with phase {phase} in --chaos, got {text!r}")
    if phase in OUTSIDE:
        return 0
    bounds = re.fullmatch(r"random\((\d+),\s*(\d+)\)", given["step"])
    if bounds:
        step = _drawn(dice, int(bounds[1]), int(bounds[2]), text)
    else:
        step = _number(given["step"], "step", text)
    if step < 1:
        raise LaunchError(f"expected a step from 1 on in --chaos, got {text!r}")
    return step


def _drawn(dice: random.Random | None, low: int, high: int, text: str) -> int:
    if dice is None:
        raise LaunchError(f"expected seed=N with random in --chaos, so that all ranks draw the same, got {text!r}")
    if low > high:
        raise LaunchError(f"expected random(low,high) with low <= high in --chaos, got {text!r}")
    return dice.randint(low, high)


def _number_of(value: _Value, given: Mapping[str, str], text: str) -> float:
    if value.key not in given:
        if value.default is None:
            raise LaunchError(f"expected {value.key}=... in --chaos, got {text!r}")
        return value.default
    if value.key == "code":
        return _number(given["code"], "code", text)
    try:
        number = float(given[value.key])
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise LaunchError(f"expected a positive number for {value.key} in --chaos, got {text!r}")
    return number


def of_rank(faults: Iterable[Fault], rank: int, world_size: int, restart: int = 0) -> tuple[Fault, ...]:
    """The faults that strike this rank in this start of the job.

    Raises:
        LaunchError: a fault names a rank that the job does not have.
    """
    mine = []
    for fault in faults:
        if fault.rank is not None and fault.rank >= world_size:
            raise LaunchError(
                f"expected ranks 0 to {world_size - 1} in --chaos, got rank={fault.rank}; start more ranks, or name "
                "another"
            )
        struck = fault.rank if fault.draw is None else fault.draw % world_size
        if struck in (None, rank) and fault.restart == restart:
            mine.append(fault)
    return tuple(mine)
