"""Generators of height fields to walk on, and their conversion to triangle meshes.

    terrain = SubTerrain(width=80, length=80, vertical_scale=0.005, horizontal_scale=0.1)
    pyramid_stairs_terrain(terrain, step_width=0.3, step_height=0.1, platform_size=2.0)
    vertices, triangles = convert_heightfield_to_trimesh(terrain.height_field_raw, 0.1, 0.005, 0.75)

Generators change `terrain.height_field_raw` in place and return the terrain. Lengths are in m; they
are divided by the terrain's scales and rounded towards zero. Randomness comes from NumPy's global
generator, so `np.random.seed` makes terrains reproducible.
"""

# ruff: noqa: NPY002  (programs seed the global generator)

from typing import Any

import numpy as np

from phalanx.errors import PhalanxError


class SubTerrain:
    """A rectangle of heights, flat at first."""

    def __init__(
        self,
        terrain_name: str = "terrain",
        width: int = 256,
        length: int = 256,
        vertical_scale: float = 1.0,
        horizontal_scale: float = 1.0,
    ) -> None:
        """width, length: samples along x and y. Scales: [m] per unit of height and per sample."""
        self.terrain_name = terrain_name
        self.width = width
        self.length = length
        self.vertical_scale = vertical_scale
        self.horizontal_scale = horizontal_scale
        self.height_field_raw = np.zeros((width, length), dtype=np.int16)


def random_uniform_terrain(
    terrain: SubTerrain,
    min_height: float,
    max_height: float,
    step: float = 1,
    downsampled_scale: float | None = None,
) -> SubTerrain:
    """Adds random heights, multiples of `step` from `min_height` on, drawn every
    `downsampled_scale` [m] (default: every sample) and interpolated linearly between."""
    horizontal, vertical = terrain.horizontal_scale, terrain.vertical_scale
    spacing = horizontal if downsampled_scale is None else downsampled_scale
    low, high, step = (int(h / vertical) for h in (min_height, max_height, step))
    if step < 1:
        raise PhalanxError(
            "random_uniform_terrain: step is less than one unit of height; give at least the"
            f" terrain's vertical_scale, {vertical}"
        )
    rows, columns = (int(n * horizontal / spacing) for n in (terrain.width, terrain.length))
    coarse = np.random.choice(np.arange(low, high + step, step), (rows, columns))
    x = np.linspace(0, rows - 1, terrain.width)
    y = np.linspace(0, columns - 1, terrain.length)
    fine = np.stack([np.interp(y, np.arange(columns), row) for row in coarse])
    fine = np.stack([np.interp(x, np.arange(rows), column) for column in fine.T], axis=1)
    terrain.height_field_raw += np.rint(fine).astype(np.int16)
    return terrain


def sloped_terrain(terrain: SubTerrain, slope: float = 1) -> SubTerrain:
    """Adds a ramp that rises along x."""
    top = int(slope * (terrain.horizontal_scale / terrain.vertical_scale) * terrain.width)
    ramp = top * np.arange(terrain.width) / terrain.width
    terrain.height_field_raw += ramp.astype(np.int16)[:, None]
    return terrain


def pyramid_sloped_terrain(
    terrain: SubTerrain, slope: float = 1, platform_size: float = 1.0
) -> SubTerrain:
    """Adds a hill (for negative slopes a pit) in the middle, cut off at a platform of
    `platform_size` [m]."""
    heights = terrain.height_field_raw
    top = int(slope * (terrain.horizontal_scale / terrain.vertical_scale) * (terrain.width / 2))
    x, y = _tent(terrain.width), _tent(terrain.length)
    heights += (top * x[:, None] * y).astype(np.int16)
    half = int(platform_size / terrain.horizontal_scale / 2)
    edge = heights[max(terrain.width // 2 - half, 0), max(terrain.length // 2 - half, 0)]
    np.clip(heights, min(edge, 0), max(edge, 0), out=heights)
    return terrain


def _tent(n: int) -> np.ndarray:
    """0 at the first of n samples, 1 in the middle."""
    middle = n // 2
    return (middle - np.abs(middle - np.arange(n))) / middle


def discrete_obstacles_terrain(
    terrain: SubTerrain,
    max_height: float,
    min_size: float,
    max_size: float,
    num_rects: int,
    platform_size: float = 1.0,
) -> SubTerrain:
    """Sets `num_rects` rectangles of sides `min_size` .. `max_size` [m] to one of +-max_height,
    +-max_height/2, and the middle to 0. Raises PhalanxError where no rectangle fits."""
    heights = terrain.height_field_raw
    top = int(max_height / terrain.vertical_scale)
    choices = [-top, -top // 2, top // 2, top]
    smallest, largest = (int(size / terrain.horizontal_scale) for size in (min_size, max_size))
    sizes = np.arange(smallest, largest, 4)
    if not len(sizes) or sizes[-1] >= min(heights.shape):
        raise PhalanxError(
            f"discrete_obstacles_terrain: no sides of {smallest} to {largest} samples fit a terrain"
            f" of {heights.shape[0]} x {heights.shape[1]}; change min_size or max_size"
        )
    for _ in range(num_rects):
        width, length = np.random.choice(sizes), np.random.choice(sizes)
        i = np.random.choice(np.arange(0, heights.shape[0] - width, 4))
        j = np.random.choice(np.arange(0, heights.shape[1] - length, 4))
        heights[i : i + width, j : j + length] = np.random.choice(choices)
    _flatten_middle(terrain, platform_size)
    return terrain


def wave_terrain(terrain: SubTerrain, num_waves: int = 1, amplitude: float = 1.0) -> SubTerrain:
    """Adds `num_waves` waves along x and along y; each swings by amplitude/2 [m]."""
    if num_waves > 0:
        swing = int(0.5 * amplitude / terrain.vertical_scale)
        samples_per_rad = terrain.length / (num_waves * np.pi * 2)
        x = swing * np.sin(np.arange(terrain.width) / samples_per_rad)
        y = swing * np.cos(np.arange(terrain.length) / samples_per_rad)
        terrain.height_field_raw += (x[:, None] + y).astype(np.int16)
    return terrain


def stairs_terrain(terrain: SubTerrain, step_width: float, step_height: float) -> SubTerrain:
    """Adds stairs that rise along x; the first sample is already on the first step."""
    width = _samples("stairs_terrain", "step_width", step_width, terrain.horizontal_scale)
    rise = int(step_height / terrain.vertical_scale)
    for i in range(terrain.width // width):
        terrain.height_field_raw[i * width : (i + 1) * width] += (i + 1) * rise
    return terrain


def pyramid_stairs_terrain(
    terrain: SubTerrain, step_width: float, step_height: float, platform_size: float = 1.0
) -> SubTerrain:
    """Sets stairs that rise (for negative heights sink) from all sides to a platform in the
    middle, of `platform_size` [m] or less."""
    width = _samples("pyramid_stairs_terrain", "step_width", step_width, terrain.horizontal_scale)
    rise = int(step_height / terrain.vertical_scale)
    platform = int(platform_size / terrain.horizontal_scale)
    ring = 0
    while min(terrain.width, terrain.length) - 2 * ring * width > platform:
        ring += 1
        inset = ring * width
        inner = (slice(inset, terrain.width - inset), slice(inset, terrain.length - inset))
        terrain.height_field_raw[inner] = ring * rise
    return terrain


def stepping_stones_terrain(
    terrain: SubTerrain,
    stone_size: float,
    stone_distance: float,
    max_height: float,
    platform_size: float = 1.0,
    depth: float = -10,
) -> SubTerrain:
    """Sets everything to `depth` [m] except a flat middle and square stones. Stones are
    `stone_distance` [m] apart, in rows with random offsets, at random heights up to
    +-max_height."""
    size = _samples("stepping_stones_terrain", "stone_size", stone_size, terrain.horizontal_scale)
    gap = int(stone_distance / terrain.horizontal_scale)
    top = int(max_height / terrain.vertical_scale)
    choices = np.arange(-top - 1, top)
    heights = terrain.height_field_raw
    heights[:] = int(depth / terrain.vertical_scale)
    # Rows of stones lie across the longer side.
    field = heights if terrain.length >= terrain.width else heights.T
    for j in range(0, field.shape[1], size + gap):
        row = slice(j, j + size)
        start = np.random.randint(0, size)
        field[: max(0, start - gap), row] = np.random.choice(choices)
        for i in range(start, field.shape[0], size + gap):
            field[i : i + size, row] = np.random.choice(choices)
    _flatten_middle(terrain, platform_size)
    return terrain


def _samples(call: str, name: str, length: float, scale: float) -> int:
    """`length` [m] in samples. Raises PhalanxError if it is less than one."""
    if int(length / scale) < 1:
        raise PhalanxError(
            f"{call}: {name} {length} is less than one sample; give at least the terrain's"
            f" horizontal_scale, {scale}"
        )
    return int(length / scale)


def _flatten_middle(terrain: SubTerrain, platform_size: float) -> None:
    """Sets a square of `platform_size` [m] in the middle to 0."""
    size = int(platform_size / terrain.horizontal_scale)
    x, y = (max((n - size) // 2, 0) for n in (terrain.width, terrain.length))
    x_end, y_end = ((n + size) // 2 for n in (terrain.width, terrain.length))
    terrain.height_field_raw[x:x_end, y:y_end] = 0


def convert_heightfield_to_trimesh(
    height_field_raw: Any,
    horizontal_scale: float,
    vertical_scale: float,
    slope_threshold: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (rows * columns, 3), float32 [m], and triangles (M, 3), uint32, of a height field.

    Row r, column c is the vertex at x = r, y = c samples. Each cell gives two triangles that face
    up. Where the height between neighbours changes by more than `slope_threshold` (a ratio), the
    lower vertex moves under the upper one, so that a steep slope becomes a wall.
    """
    heights = np.asarray(height_field_raw, dtype=np.int64)  # differences fit
    rows, columns = heights.shape
    x, y = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    if slope_threshold is not None:
        steepest = slope_threshold * (horizontal_scale / vertical_scale)
        move_x = _steps(heights[1:] - heights[:-1], steepest, (1, 0), heights.shape)
        move_y = _steps(heights[:, 1:] - heights[:, :-1], steepest, (0, 1), heights.shape)
        diagonal = _steps(heights[1:, 1:] - heights[:-1, :-1], steepest, (1, 1), heights.shape)
        x = x + np.where(move_x == 0, diagonal, move_x)
        y = y + np.where(move_y == 0, diagonal, move_y)
    z = heights * vertical_scale
    vertices = np.stack([x * horizontal_scale, y * horizontal_scale, z], axis=-1)

    corner = np.arange(rows * columns).reshape(rows, columns)
    a, b = corner[:-1, :-1], corner[:-1, 1:]  # at a row and the next column
    c, d = corner[1:, :-1], corner[1:, 1:]  # the same of the next row
    triangles = np.stack([a, d, b, a, c, d], axis=-1)
    return vertices.reshape(-1, 3).astype(np.float32), triangles.reshape(-1, 3).astype(np.uint32)


def _steps(rise: np.ndarray, steepest: float, axis: tuple, shape: tuple) -> np.ndarray:
    """+1 for a vertex below a wall that rises along `axis`, -1 below one that falls, else 0. A
    vertex in a gap of one sample stays. `rise` has one element less than `shape` along `axis`."""
    move = np.zeros(shape, dtype=np.int64)
    lower = tuple(slice(None, -1) if along else slice(None) for along in axis)
    upper = tuple(slice(1, None) if along else slice(None) for along in axis)
    move[lower] += rise > steepest
    move[upper] -= rise < -steepest
    return move
