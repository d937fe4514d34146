"""Attractors: springs that pull a point, or a frame, of a body to a place in its environment.

They are equality constraints whose force is that of a spring and a damper at the end of a substep,
so that they may be as stiff as one likes. The same two numbers hold for the point [N/m, N s/m] and
for the frame's rotation [N m/rad, N m s/rad]. With stiffness 0 there is no damper, either. The
bodies and axes of attractors are the same in all environments of a model; places and springs may
differ.
"""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from torch import Tensor

from isaacgym.enums import AXIS_ALL, AXIS_TRANSLATION
from isaacgym.geometry import Transform
from isaacgym.property_structs import AttractorProperties
from isaacgym.state import State
from isaacgym.world import Env
from phalanx.errors import PhalanxError

KINDS = {
    AXIS_TRANSLATION: mujoco.mjtEq.mjEQ_CONNECT,
    AXIS_ALL: mujoco.mjtEq.mjEQ_WELD,
}
SOFTEST, STIFFEST = mujoco.mjMINIMP, mujoco.mjMAXIMP
NEAR = 0.01  # [m] least arm of a point that a body turns about its centre of mass


def check(properties: AttractorProperties, call: str) -> None:
    """Raise PhalanxError for a spring that is not supported."""
    right = 0 <= properties.stiffness < np.inf and 0 <= properties.damping < np.inf
    if properties.axes not in KINDS or not right:
        raise PhalanxError(
            f"gym.{call} supports only AXIS_TRANSLATION and AXIS_ALL with a stiffness and a damping"
            f" that are not negative; got axes {properties.axes}, stiffness"
            f" {properties.stiffness:g} and damping {properties.damping:g}"
        )


def add_attractors(spec: mujoco.MjSpec, env: Env, names: Sequence[str]) -> None:
    """Add the attractors of `env` to a scene with bodies `names`, in the order of handles."""
    for k, attractor in enumerate(env.attractors):
        spec.body(names[attractor.rigid_handle]).add_site(name=f"attractor{k}:offset")
        spec.worldbody.add_site(name=f"attractor{k}:target")
        spec.add_equality(
            name=f"attractor{k}",
            type=KINDS[attractor.axes],
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            name1=f"attractor{k}:offset",
            name2=f"attractor{k}:target",
        )


class Attractors:
    """The attractors of all environments of an engine."""

    def __init__(self, state: State, envs: Sequence[Env]) -> None:
        self._state, self._envs = state, envs
        self.switched = False  # only where needed: it costs a field of the engine

    def begin(self) -> None:
        """Give an engine that has new constants the places and springs of all attractors."""
        if self._envs[0].attractors:
            self.update(list(range(len(self._envs))))

    def update(self, rows: list[int]) -> None:
        """Give the engine the places and springs of the attractors in the environments of `rows`,
        which must have changed."""
        state = self._state
        model, at = state.engine.model, state.index(np.array(rows))
        held = [self._envs[row].attractors for row in rows]
        for end in ("offset", "target"):
            poses = np.array([[_numbers(getattr(a, end)) for a in own] for own in held])
            places = state.tensor(poses)  # (rows, attractors, 7)
            if end == "target":
                places[..., :3] += state.offset[at]
            sites = [model.site(f"attractor{k}:{end}").id for k in range(len(held[0]))]
            state.model_field("site_pos")[at[:, None], sites] = places[..., :3]
            state.model_field("site_quat")[at[:, None], sites] = places[..., 3:]
            if state.engine.engine.name == "mujoco":  # else a site at the body's origin stays there
                state.model_field("site_sameframe")[at[:, None], sites] = 0
        stiffness = np.array([[a.stiffness for a in own] for own in held])
        damping = np.array([[a.damping for a in own] for own in held])
        springs = [model.eq(f"attractor{k}").id for k in range(len(held[0]))]
        ends = [model.site(f"attractor{k}:offset").id for k in range(len(held[0]))]
        bodies = model.site_bodyid[ends].tolist()
        points = state.model_field("site_pos")[at[:, None], ends]
        arm = (points - state.model_field("body_ipos")[at[:, None], bodies]).norm(dim=-1)
        weights = state.model_field("body_invweight0")
        inverse = _inverse(weights[at[:, None], bodies], arm)
        for k, body in enumerate(bodies):  # MuJoCo takes the same; of two on a body the last
            weights[at, body] = inverse[:, k]
        numbers = state.tensor(stiffness), state.tensor(damping)
        solref, solimp, turn = _springs(*numbers, inverse, model.opt.timestep)
        state.model_field("eq_solref")[at[:, None], springs] = solref
        state.model_field("eq_solimp")[at[:, None], springs] = solimp
        state.model_field("eq_data")[at[:, None], springs, 10] = turn
        if not (self.switched or stiffness.all()):
            self.switched = True
            state.change_step()
        if self.switched:
            active = state.engine.eq_active
            active[at[:, None], springs] = state.tensor(stiffness > 0).to(active.dtype)


def _inverse(weights: Tensor, arm: Tensor) -> Tensor:
    """body_invweight0 (N, A, 2) of bodies held `arm` (N, A) [m] from their centres of mass; where
    the centre itself hardly moves, as a wheel's on its axis, that of the point."""
    move, turn = weights.unbind(-1)
    point = turn * arm.clamp_min(NEAR).square()
    return torch.stack([torch.where(move < 0.1 * point, point, move), turn], -1)


def _springs(
    stiffness: Tensor, damping: Tensor, inverse: Tensor, dt: float
) -> tuple[Tensor, Tensor, Tensor]:
    """MuJoCo's solref (N, A, 2), solimp (N, A, 5) and scale of rotation (N, A) of springs (N, A)
    at bodies with body_invweight0 `inverse` (N, A, 2).

    At the end of a substep of length h with acceleration a, the force on an error r with velocity
    v is -K (r + h v + h^2 a) - D (v + h a). MuJoCo's is (aref - a) / R with aref = -k r - b v, so
    1 / R = K h^2 + D h, k = K R and b = (D + K h) R. It takes R = (1 - d) / d invweight0 for an
    impedance d, divides solref by d, and has half the angle, times the scale, as the error of a
    rotation. With the least d a soft spring adds a ten thousandth of the body's mass; with the
    most, a hard one is softer.
    """
    stiff = stiffness * dt**2 + damping * dt
    part = stiff * inverse[..., 0]
    impedance = (part / (1 + part)).clamp(SOFTEST, STIFFEST)
    least = torch.minimum((1 - impedance) / impedance * inverse[..., 0], 1 / stiff)
    solref = torch.stack([stiffness * least, (damping + stiffness * dt) * least], -1)
    rest = torch.ones_like(impedance)  # width, midpoint and power do nothing
    solimp = torch.stack([impedance, impedance, rest, 0.5 * rest, 2 * rest], -1)
    turn = 2 * (inverse[..., 1] / inverse[..., 0].clamp_min(1e-12)).sqrt()
    return -impedance[..., None] * solref, solimp, turn


def _numbers(pose: Transform) -> list[float]:
    """Position [m] and unit quaternion, w x y z."""
    r = pose.r.normalize()
    return [*pose.p, r.w, r.x, r.y, r.z]
