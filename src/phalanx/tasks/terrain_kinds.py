"""Kinds of ground to walk on: heights of a square tile, by name, harder with the difficulty.

    z = KINDS["stairs_up"](x, y, 0.5, rng)

x, y: (n, n) [m] from the middle of the tile, where robots start; x grows along the first axis.
difficulty: 0 to 1. Each returns heights (n, n) [m], level in the middle, where a platform of
`PLATFORM` is left for the start, and 0 or nearly so at the edge, where a robot walks on to the next
tile. The sizes are those of the field: slopes to 0.4, steps of 5 to
23 cm, obstacles of 5 to 25 cm (arXiv:2109.11978), roughness of 2 to 10 cm, waves to 20 cm.
Between samples the ground is a plane, so edges are ramps as wide as the samples are apart; whatever
would be narrower than that, such as the gaps of the first rows, becomes as wide. `EDGES` has the
kinds with edges a second time, for vertical ones: then x and y are the middles of cells, each cell
is level, and a stair's steps are whole cells deep.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from phalanx.config import BadSetting
from phalanx.errors import did_you_mean

Array = np.ndarray
Kind = Callable[[Array, Array, float, np.random.Generator], Array]

PLATFORM = 2.0
"""Side of the flat middle of a tile [m]."""
TREAD = 0.31
"""Depth of a stair's step [m]."""
DEEP = 1.0
"""Depth of gaps and between stepping stones [m]."""


def _ring(x: Array, y: Array) -> Array:
    """Distance from the platform [m], measured along x or y; 0 on it."""
    return np.maximum(np.maximum(np.abs(x), np.abs(y)) - PLATFORM / 2, 0.0)


def _spacing(x: Array) -> float:
    """Distance of the samples [m]."""
    return float(x[1, 0] - x[0, 0])


def _samples(x: Array, width: float, least: int = 1) -> int:
    """How many samples are nearest to a width [m], `least` or more."""
    return max(least, round(width / _spacing(x)))


def flat(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """Level."""
    return np.zeros_like(x)


def slope_down(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """A hill, whose top is the start; rise per run up to 0.4."""
    ring = _ring(x, y)
    return 0.4 * difficulty * (ring.max() - ring)


def slope_up(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """A pit, from whose bottom all ways lead up."""
    return -slope_down(x, y, difficulty, rng)


def stairs_down(
    x: Array, y: Array, difficulty: float, rng: np.random.Generator, whole: bool = False
) -> Array:
    """Stairs around the start that lead down. whole: steps are whole cells deep."""
    deep = _samples(x, TREAD) * _spacing(x) if whole else max(TREAD, 2 * _spacing(x))
    steps = np.ceil(_ring(x, y) / deep - 1e-9)
    return (0.05 + 0.18 * difficulty) * (steps.max() - steps)


def stairs_up(
    x: Array, y: Array, difficulty: float, rng: np.random.Generator, whole: bool = False
) -> Array:
    """Stairs around the start that lead up. whole: steps are whole cells deep."""
    return -stairs_down(x, y, difficulty, rng, whole)


def obstacles(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """Twenty blocks and pits of 1 to 2 m."""
    z, half, top = np.zeros_like(x), float(np.abs(x).max()), 0.05 + 0.2 * difficulty
    for _ in range(20):
        (cx, cy), (wx, wy) = rng.uniform(-half, half, 2), rng.uniform(0.5, 1.0, 2)
        inside = (np.abs(x - cx) < wx) & (np.abs(y - cy) < wy)
        z[inside] = rng.choice([-top, -top / 2, top / 2, top])
    z[_ring(x, y) == 0] = 0.0
    return z


def stones(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """Stepping stones, smaller and farther apart with the difficulty, over deep ground."""
    size, gap = 0.9 - 0.5 * difficulty, 0.05 + 0.25 * difficulty
    wide = _samples(x, size, least=2)
    pitch = wide + _samples(x, gap)
    at = [np.floor(v / _spacing(x) + 1e-6).astype(int) + wide // 2 for v in (x, y)]
    (i, j), on = (v // pitch for v in at), (at[0] % pitch < wide) & (at[1] % pitch < wide)
    many = int(max(np.abs(i).max(), np.abs(j).max()))
    tops = rng.uniform(-0.05, 0.05, (2 * many + 1, 2 * many + 1)) * difficulty
    z = np.where(on, tops[i + many, j + many], -DEEP)
    return np.where(_ring(x, y) == 0, 0.0, z)


def gap(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """A gap around the platform, up to 60 cm wide."""
    samples = np.ceil(_ring(x, y) / _spacing(x) - 1e-6)  # from the platform
    wide = _samples(x, 0.05 + 0.55 * difficulty)
    return np.where((samples > 0) & (samples <= wide), -DEEP, 0.0)


def waves(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """Waves of 4 m along both axes, up to 20 cm high."""
    steep = 0.05 * difficulty
    return steep * (np.sin(np.pi / 2 * x) + np.sin(np.pi / 2 * y))


def uneven(x: Array, y: Array, difficulty: float, rng: np.random.Generator) -> Array:
    """Random heights every 20 cm, within 2 to 10 cm, with straight lines between."""
    half, top = float(np.abs(x).max()), 0.01 + 0.04 * difficulty
    knots = np.arange(-half - 0.2, half + 0.4, 0.2)
    heights = rng.uniform(-top, top, (len(knots), len(knots)))
    one = np.eye(len(knots))
    along_x, along_y = (
        np.stack([np.interp(at, knots, row) for row in one], 1) for at in (x[:, 0], y[0])
    )
    return along_x @ heights @ along_y.T


KINDS: dict[str, Kind] = {
    f.__name__: f
    for f in (
        *(flat, slope_up, slope_down, stairs_up, stairs_down),
        *(obstacles, stones, gap, waves, uneven),
    )
}

EDGES: dict[str, Kind] = {
    "stairs_up": partial(stairs_up, whole=True),
    "stairs_down": partial(stairs_down, whole=True),
    **{f.__name__: f for f in (obstacles, stones, gap)},
}


def check_shares(kinds: Mapping[str, float], owner: str) -> None:
    """Raise BadSetting unless these, `kinds` of `owner`, are shares of kinds, by name."""
    for name, share in kinds.items():
        if name not in KINDS:
            near = did_you_mean(str(name), KINDS)
            wrong = f"has no kind of ground {name!r}{near}; kinds: {', '.join(KINDS)}"
            raise BadSetting(owner, "kinds", wrong)
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not 0 <= share < float("inf"):
            raise BadSetting(
                owner, f"kinds.{name}", f"is {share!r}; it must be a number, 0 or more"
            )
    if not sum(kinds.values()) > 0:
        raise BadSetting(owner, "kinds", "has no share greater than 0")
