"""Ground of many kinds and difficulties, on which robots move up as they learn.

    self.map = TerrainMap(config.terrain_settings)      # in Task.create_scene
    self.map.add_to(scene)
    self.terrain = Terrain(self, self.map)              # in Task.init_buffers
    self.terrain.step(base_pos, yaw, velocity)          # once per step, before the reward
    self.terrain.begin(mask)                            # in Task.reset_envs; then `terrain.start`

The map is one height field, made of square tiles: kinds by column, difficulty by row. With
`sharp_edges`, tiles of kinds with edges are boxes, and the height field lies buried below them.
All robots walk on the map, each from the middle of its tile. Where an episode ends, the robot goes
on a row up if it left its tile, and down if it came less than half as far from its start as its
commands would have taken it in a whole episode; who masters the last row starts anywhere. `height`
looks the ground up, exactly between samples, too, without waiting for the device.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import mujoco
import numpy as np
import torch
from torch import Tensor

from phalanx.config import BadSetting, check_made, ranged
from phalanx.errors import PhalanxError
from phalanx.sim import Scene
from phalanx.tasks.terrain_boxes import Rectangle, bury, check_number, cover
from phalanx.tasks.terrain_kinds import EDGES, KINDS, check_shares

if TYPE_CHECKING:
    from phalanx.tasks.task import Task

MOST_SAMPLES = 16_000_000
"""Of a map; the engines need about 30 bytes for each."""
COARSEST = 0.5
"""Largest distance of samples, at which obstacles and waves still have their shape [m]."""
ROUGH = {"slope_up": 0.1, "slope_down": 0.1, "uneven": 0.1, "waves": 0.1, "stairs_up": 0.2,
         "stairs_down": 0.2, "obstacles": 0.2}  # fmt: skip


@dataclass(frozen=True)
class TerrainSettings:
    """Settings of a map. Raises PhalanxError for values out of their ranges."""

    kinds: dict[str, float] = field(default_factory=lambda: dict(ROUGH))
    """Shares of the columns, by name of a kind: flat, slope_up, slope_down, stairs_up, stairs_down,
    obstacles, stones, gap, waves, uneven."""
    rows: int = ranged(10, at_least=1, at_most=100)
    """Difficulties, from 0 to 1."""
    columns: int = ranged(20, at_least=1, at_most=100)
    """Tiles of each difficulty, shared out to the kinds."""
    tile: float = ranged(8.0, at_least=4.0, at_most=100)
    """Side of a tile [m]."""
    spacing: float = ranged(0.1, at_least=0.01)
    """Distance of samples, and side of the cells that boxes consist of [m]; smaller is finer, and
    takes more memory. Without `sharp_edges` also the width of the ramps that edges become."""
    sharp_edges: bool = True
    """Whether edges of stairs, obstacles, stones and gaps are vertical, made of boxes."""
    border: float = ranged(8.0, at_least=0, at_most=1000)
    """Width of the flat edge around all tiles [m]."""
    first_rows: int = ranged(5, at_least=1, at_most=100)
    """Rows in which robots start at first."""
    curriculum: bool = True
    """Whether robots change rows; if not, they start in all of them."""
    seed: int = ranged(1, at_least=0, at_most=2**63 - 1)
    """Seed of the random ground."""

    def __post_init__(self) -> None:
        check_made(self, type(self).__name__)
        check_shares(self.kinds, type(self).__name__)
        if self.spacing > (coarsest := min(self.tile / 20, COARSEST)):
            raise BadSetting(
                type(self).__name__,
                "spacing",
                f"is {self.spacing:g} m; a tile of {self.tile:g} m needs samples every"
                f" {coarsest:g} m or closer",
            )


class TerrainMap:
    """The heights (nx, ny) [m] of a map whose middle is the world's origin, and `middles` (rows,
    columns, 3) [m], the highest ground around each tile's middle. tops (nx, ny) [m]: those of the
    boxes, -inf where there are none; that of a cell is where the first of its corners is in the
    heights. Raises PhalanxError for a map that is too large."""

    def __init__(self, settings: TerrainSettings) -> None:
        if not isinstance(settings, TerrainSettings):
            raise PhalanxError(
                f"the settings of a TerrainMap are {settings!r}; they must be TerrainSettings"
            )
        self.settings = s = settings
        cells, edge = round(s.tile / s.spacing), round(s.border / s.spacing)
        shape = (s.rows * cells + 2 * edge + 1, s.columns * cells + 2 * edge + 1)
        if shape[0] * shape[1] > MOST_SAMPLES:
            raise PhalanxError(
                f"the terrain has {shape[0]} x {shape[1]} samples, more than"
                f" {MOST_SAMPLES // 10**6} million; make its rows, columns or tile smaller, or its"
                " spacing larger"
            )
        self.heights = np.zeros(shape, np.float32)
        self.corner = -s.spacing * (np.array(shape) - 1) / 2
        self.columns = self._columns()
        self.middles = np.zeros((s.rows, s.columns, 3), np.float32)
        self.tops = np.full(shape, -np.inf, np.float32)
        self.boxes: list[Rectangle] = []
        rng = np.random.default_rng(s.seed)
        for row in range(s.rows):
            for column, kind in enumerate(self.columns):
                boxes = s.sharp_edges and kind in EDGES
                n = cells + (not boxes)  # samples at corners of cells, boxes in their middles
                along = s.spacing * (np.arange(n) - (n - 1) / 2)
                x, y = np.meshgrid(along, along, indexing="ij")
                z = (EDGES if boxes else KINDS)[kind](x, y, row / max(s.rows - 1, 1), rng)
                i, j = edge + row * cells, edge + column * cells
                (self.tops if boxes else self.heights)[i : i + n, j : j + n] = z
                if boxes:
                    self.boxes += cover(z, (i, j))
                    check_number(self.boxes)
                near = (np.abs(x) <= 0.7) & (np.abs(y) <= 0.7)
                middle = self.corner + s.spacing * (np.array([i, j]) + cells / 2)
                self.middles[row, column] = [*middle, z[near].max()]
        bury(self.heights, self.tops)

    def _columns(self) -> list[str]:
        """The kind of each column, in the order of the settings."""
        shares = np.cumsum([float(v) for v in self.settings.kinds.values()])
        at = (np.arange(self.settings.columns) + 0.5) / self.settings.columns * shares[-1]
        names = list(self.settings.kinds)
        return [names[k] for k in np.searchsorted(shares, at, side="right").tolist()]

    def add_to(self, scene: Scene, friction: float = 1.0) -> None:
        """Add the map as a height field, and boxes, in place of the ground."""
        low, span = float(self.heights.min()), max(float(np.ptp(self.heights)), 1e-3)
        scene.spec.add_hfield(
            name="terrain",
            nrow=self.heights.shape[1],
            ncol=self.heights.shape[0],
            size=[*-self.corner, span, 1.0],
            userdata=((self.heights.T - low) / span).flatten(),
        )
        alike = {"friction": [friction, 0.005, 0.0001], "material": "ground"}
        scene.spec.worldbody.add_geom(
            name="ground",
            type=mujoco.mjtGeom.mjGEOM_HFIELD,
            hfieldname="terrain",
            pos=[0.0, 0.0, low],
            **alike,
        )
        for k, (first, last, height) in enumerate(self.boxes):
            begin, end = (self.corner + self.settings.spacing * np.array(c) for c in (first, last))
            scene.spec.worldbody.add_geom(
                name=f"ground_{k}",
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[*(end - begin) / 2, (height - low) / 2],
                pos=[*(begin + end) / 2, (height + low) / 2],
                **alike,
            )


class Terrain:
    """Where the robots of a task are on a map, as its state."""

    def __init__(self, task: "Task", map: TerrainMap) -> None:
        if not isinstance(map, TerrainMap):
            raise PhalanxError(
                f"the map of a Terrain is {map!r}; it must be a TerrainMap, whose add_to(scene) was"
                " called in create_scene"
            )
        self.settings, device, n = map.settings, task.device, task.num_envs
        self.episode_length = task.config.episode_length
        self.dt = task.sim.dt
        self._heights = torch.tensor(map.heights, device=device)
        self.has_boxes = bool(map.boxes)
        self._tops = torch.tensor(map.tops if map.boxes else map.tops[:0], device=device)
        self.corner = torch.tensor(map.corner, dtype=torch.float32, device=device)
        """(2,) world position of the first sample [m]."""
        self._middles = torch.tensor(map.middles, device=device)
        first = self.settings.rows
        if self.settings.curriculum:
            first = min(first, self.settings.first_rows)
        rows = torch.randint(first, (n,), device=device)
        self.row = task.state("terrain_row", rows, lasting=True)
        """(N,) the robots' row of tiles, which is the difficulty."""
        places = torch.arange(n, device=device) * self.settings.columns // n
        self.column = places
        """(N,) the robots' column, which is the kind of ground; it stays."""
        self.start = task.state("terrain_start", self._middles[self.row, self.column])
        """(N, 3) the place at which a robot's episode began, on the ground [m]."""
        self._walked = task.state("terrain_walked", torch.zeros(n, device=device))
        # (N, 2) [m], where the commands would have taken the robots, who turned as they did
        self._asked = task.state("terrain_asked", torch.zeros(n, 2, device=device))
        self._steps = task.state("terrain_steps", torch.zeros(n, device=device))
        task.schedule_ends.append(self.end_schedules)

    def height(self, xy: Tensor) -> Tensor:
        """Of the ground at world positions (..., 2) [m], (...) [m]; that of the edge outside."""
        x, y = ((xy - self.corner) / self.settings.spacing).unbind(-1)
        i, j, cell = self._cells(x, y)
        field = self._field(x - i, y - j, cell)
        return torch.maximum(field, self._tops.view(-1)[cell]) if self.has_boxes else field

    def field(self, x: Tensor, y: Tensor) -> Tensor:
        """Heights of the height field alone at places (...) counted in cells of the map, from its
        corner, (...) [m]."""
        i, j, cell = self._cells(x, y)
        return self._field(x - i, y - j, cell)

    def tops(self, x: Tensor, y: Tensor) -> Tensor:
        """Heights of the boxes there [m], -inf where there are none; only if `has_boxes`."""
        return self._tops.view(-1)[self._cells(x, y)[2]]

    def _cells(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of places: along x, along y, and the number of each one's first corner."""
        nx, ny = self._heights.shape
        i, j = x.floor().clamp(0, nx - 2), y.floor().clamp(0, ny - 2)
        return i, j, (i * ny + j).long()

    def _field(self, u: Tensor, v: Tensor, first: Tensor) -> Tensor:
        """Heights at places in cells, 0 to 1 along x and y."""
        u, v = u.clamp(0, 1), v.clamp(0, 1)
        z, ny = self._heights.view(-1), self._heights.shape[1]
        a, b, c, d = z[first], z[first + ny], z[first + 1], z[first + ny + 1]
        # MuJoCo's triangles: the diagonal of a cell goes from its first corner to the opposite one
        return a + torch.where(u > v, u * (b - a) + v * (d - b), v * (c - a) + u * (d - c))

    def outside(self, pos: Tensor) -> Tensor:
        """(N,) bool, whether positions (N, 3) are closer than 1 m to the end of the map."""
        return (pos[:, :2].abs() > -self.corner - 1.0).any(1)

    def step(self, pos: Tensor, yaw: Tensor, velocity: Tensor) -> None:
        """One control step has passed. pos: of the bases, (N, 3) [m]; yaw: theirs, (N,) [rad];
        velocity: that of the commands along their x and y, (N, 2) [m/s]."""
        self._walked.copy_((pos[:, :2] - self.start[:, :2]).norm(dim=1))
        (x, y), cos, sin = velocity.unbind(1), yaw.cos(), yaw.sin()
        self._asked += self.dt * torch.stack([cos * x - sin * y, sin * x + cos * y], 1)
        self._steps += 1

    def begin(self, mask: Tensor) -> None:
        """Episodes begin in environments `mask` (N,) bool: choose a tile."""
        s, row = self.settings, self.row
        whole = self._asked.norm(dim=1) * self.episode_length / self._steps.clamp(min=1)
        up = self._walked > s.tile / 2
        down = ~up & (self._walked < 0.5 * whole)
        anywhere = torch.randint_like(row, s.rows)
        moved = (row + up.long() - down.long()).clamp(min=0)
        moved = torch.where(moved >= s.rows, anywhere, moved)
        if not s.curriculum:
            moved = anywhere
        # A checkpoint may be of a map with more rows.
        row.copy_(torch.where(mask & (self._steps > 0), moved, row).clamp(0, s.rows - 1))
        start = self._middles[row, self.column]
        self.start.copy_(torch.where(mask[:, None], start, self.start))
        self._asked.masked_fill_(mask[:, None], 0.0)
        for sums in (self._walked, self._steps):
            sums.masked_fill_(mask, 0.0)

    def scalars(self) -> dict[str, float]:
        """The robots' mean row, for the log; waits for the device."""
        return {"terrain/row": float(self.row.float().mean())}

    def end_schedules(self) -> None:
        """Start in all rows, as a judge does."""
        self.row.copy_(torch.randint_like(self.row, self.settings.rows))
        self.start.copy_(self._middles[self.row, self.column])
