"""Places of the parts of one environment in Isaac Gym's tensors and in MuJoCo's arrays.

All environments have the layout of the first, whose actors are compiled one after the other.
"""

import numpy as np

from isaacgym.contact_points import contact_points
from isaacgym.ground import Ground
from isaacgym.world import Actor, Env


class Layout:
    """Rows in Isaac Gym's tensors, and addresses in MuJoCo's arrays, of one environment."""

    def __init__(self, env: Env, grounds: list[Ground]) -> None:
        self.actors: list[Actor] = env.actors
        self.num_bodies, self.num_dofs = env.num_bodies, env.num_dofs
        self.free = np.array([not a.asset.fixed for a in self.actors])
        bodies, dofs, q, v = [], [], 0, 0
        dof_q: list[int] = []
        dof_v: list[int] = []
        self.root_q: list[int] = []  # of actors with a free base; -1 for others
        self.root_v: list[int] = []
        self.mocap: list[int] = []  # of actors with a fixed base; -1 for others
        for a, actor in enumerate(self.actors):
            model = actor.asset.model
            bodies += [a] * actor.asset.num_bodies
            dofs += [a] * actor.asset.num_dofs
            self.root_q.append(q if self.free[a] else -1)
            self.root_v.append(v if self.free[a] else -1)
            self.mocap.append(-1 if self.free[a] else int((~self.free[:a]).sum()))
            dof_q += (q + model.jnt_qposadr[actor.asset.dof_joints]).tolist()
            dof_v += (v + model.jnt_dofadr[actor.asset.dof_joints]).tolist()
            q, v = q + model.nq, v + model.nv
        self.nq, self.nv = q, v
        self.actor_of_body, self.actor_of_dof = np.array(bodies, int), np.array(dofs, int)
        self.dof_q, self.dof_v = np.array(dof_q, int), np.array(dof_v, int)
        self.root_body = np.array([a.first_body for a in self.actors])
        self.sensors = [
            (actor.first_body + body, pose, props)
            for actor in self.actors
            for body, pose, props in actor.sensors
        ]
        has_terrain = any(piece.kind != "plane" for piece in grounds)
        self.points = contact_points(self.actors if has_terrain else [])
        self._number_geoms(len(grounds))

    def _number_geoms(self, grounds: int) -> None:
        """Number the geoms. The world has the grounds, then a plane for each contact point; a body
        has the geoms of its asset, then its contact points."""
        points = self.points
        self.ground_geoms = slice(0, grounds)
        first = grounds + len(points)
        self.plane_geoms = slice(grounds, first)
        self.point_geoms = np.zeros(len(points), int)
        self.actor_geoms: list[
            np.ndarray
        ] = []  # for each actor, the number of each geom of its asset
        for a, actor in enumerate(self.actors):
            own = actor.asset.model.geom_bodyid
            at = np.flatnonzero(points.actor == a)
            body = points.body[at] - actor.first_body + 1
            self.actor_geoms.append(
                first + np.arange(len(own)) + np.searchsorted(body, own, side="left")
            )
            self.point_geoms[at] = (
                first + np.arange(len(at)) + np.searchsorted(own, body, side="right")
            )
            first += len(own) + len(at)
        shapes = [
            g[a.asset.shape_geoms] for g, a in zip(self.actor_geoms, self.actors, strict=True)
        ]
        self.shape_geoms = np.concatenate(shapes).astype(int)
        """(shapes,) geom of each shape."""
