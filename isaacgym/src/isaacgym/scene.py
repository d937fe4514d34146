"""The first environment as a MuJoCo model.

Structure (bodies, joints, shapes, which shapes may touch) comes from the first environment. Numbers
that may differ between environments (gains, masses, frictions, ...) come from `model_fields.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from isaacgym.actor_properties import weightless_bodies
from isaacgym.attractors import add_attractors
from isaacgym.collisions import set_collisions
from isaacgym.ground import Ground
from isaacgym.layout import Layout
from isaacgym.mesh_variants import add_meshes, variants_of
from isaacgym.model_fields import GEOM_FIELDS, model_fields, off_centre_bodies
from isaacgym.property_structs import ForceSensorProperties
from isaacgym.world import Actor, World
from phalanx.errors import PhalanxError
from phalanx.sim import Scene

HIDDEN = 5  # group of geoms that viewers show only on request
MARGIN = 1.0  # [m] of solid ground below the lowest sample
FAR = 1e4  # [m] half the edge of a box that holds every shape of a body


class ActorScene(Scene):
    """The first environment of `world`. masks: contype and conaffinity of its shapes, see
    `collisions.collision_masks`. contact_forces: add sensors of them to every body with
    shapes. force_sensors: add the sensors that Isaac Gym's force sensors need."""

    def __init__(
        self,
        world: World,
        layout: Layout,
        masks: tuple[np.ndarray, np.ndarray],
        contact_forces: bool,
        force_sensors: bool,
    ) -> None:
        params = world.params
        super().__init__(
            world.timestep,
            tuple(params.gravity),
            "euler",
            iterations=10,  # 6 are too few for elliptic cones, even for a ball
            ls_iterations=20,
        )
        # Feet creep with MuJoCo's defaults: legged_gym's ANYmal has sunk to 0.41 m after two
        # seconds. With these options, which cost no time, it stands at 0.51 m.
        self.spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        self.spec.option.impratio = 10.0
        # No joint has MuJoCo's own damping, so there is nothing to integrate implicitly.
        self.spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
        self._world = world
        self._layout = layout
        self._masks = masks
        for piece in world.grounds:
            _add_ground(self.spec, piece)
        self.fields: dict[str, np.ndarray] = {}
        """What `model_fields` gave when the model was compiled, for all environments."""
        self._weightless = weightless_bodies(world)
        self._off_centre = off_centre_bodies(world, layout)
        self._variants = variants_of(world)
        for actor, variants in zip(layout.actors, self._variants, strict=True):
            self._add(actor)
            add_meshes(self.spec, actor.handle, variants)
        self._add_contact_points()
        self._unmeasured = set()
        if not contact_forces:
            self._unmeasured.add("net_contact_force")
        if not force_sensors:
            self._unmeasured.add("force_sensor")
        shaped = sorted({a.first_body + int(b) for a in layout.actors for b in a.asset.shape_body})
        self.contact_bodies = shaped if contact_forces else []
        names = [b.name for b in self.spec.bodies[1:]]
        for b in self.contact_bodies:
            actor, body = names[b].split("/", 1)
            self.add_contact_force_sensors(actor, [body])
        self.accelerated_bodies = sorted({b for b, _, _ in layout.sensors}) if force_sensors else []
        for b in self.accelerated_bodies:
            for kind in (mujoco.mjtSensor.mjSENS_FRAMELINACC, mujoco.mjtSensor.mjSENS_FRAMEANGACC):
                self.spec.add_sensor(
                    name=f"{names[b]}:{kind}",
                    type=kind,
                    objtype=mujoco.mjtObj.mjOBJ_BODY,
                    objname=names[b],
                )
        self.touched_bodies = sorted({b for b, _, p in layout.sensors if not _reads_all(p)})
        self.touched_bodies = self.touched_bodies if force_sensors else []
        for b in self.touched_bodies:
            # dataspec: force, torque and place; reduction 3 sums all contacts in the world frame
            self.spec.add_sensor(
                name=f"{names[b]}:touch",
                type=mujoco.mjtSensor.mjSENS_CONTACT,
                objtype=mujoco.mjtObj.mjOBJ_BODY,
                objname=names[b],
                intprm=[1 << 1 | 1 << 2 | 1 << 4, 3, 1],
            )
        add_attractors(self.spec, world.envs[0], names)

    def measures(self, tensor: str) -> bool:
        """Whether the model has the sensors that a tensor needs."""
        return tensor not in self._unmeasured

    def allows(self, world: World) -> bool:
        """Whether the model can have the meshes and the mass properties of the bodies of all
        environments."""
        if [v.keys for v in variants_of(world)] != [v.keys for v in self._variants]:
            return False
        off_centre = off_centre_bodies(world, self._layout)
        return self._weightless == weightless_bodies(world) and off_centre <= self._off_centre

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        model = super().compile(memory)
        layout = self._layout
        assert (model.nbody - 1, model.nq, model.nv) == (layout.num_bodies, layout.nq, layout.nv)
        set_collisions(model, self._world, layout, self._masks)
        tendons = [tendon for actor in layout.actors for tendon in actor.asset.tendons]
        model.wrap_prm[:] = [c for tendon in tendons for c in tendon.coefficients]
        if not self.fields:  # every engine that looks at the scene compiles it
            self.fields = model_fields(self._world, layout, model)
        fields = self.fields
        for name, values in fields.items():
            getattr(model, name)[...] = values[0]
        mujoco.mj_setConst(model, mujoco.MjData(model))
        # It looks for short cuts again, which must hold in all environments, not in the first only.
        model.body_sameframe[[b + 1 for b in self._off_centre]] = 0
        moved = np.zeros(model.ngeom, bool)
        for name in GEOM_FIELDS:
            differs = (fields[name] != fields[name][:1]).any(0)
            moved |= differs if differs.ndim == 1 else differs.any(-1)
        model.geom_sameframe[moved] = 0
        for body in set(model.geom_bodyid[moved]):  # its tree of boxes is of the first environment
            tree = model.body_bvhadr[body] + np.arange(model.body_bvhnum[body])
            model.bvh_aabb[tree, 3:] = FAR
        return model

    def _add(self, actor: Actor) -> None:
        asset = actor.asset
        robot = asset.spec.copy()
        root = robot.worldbody.first_body()
        root.mocap = asset.fixed
        root.pos, root.quat = [0, 0, 0], [1, 0, 0, 0]
        root.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        for k, body in enumerate(robot.bodies[1:], actor.first_body):
            body.gravcomp = float(k in self._weightless)
            if k in self._off_centre:
                # MuJoCo's compiler takes short cuts for inertias that are centred and aligned.
                # These numbers prevent that; `model_fields` has the true ones.
                body.explicitinertial, body.mass, body.inertia = True, 1.0, [1, 1, 1]
                body.ipos, body.iquat = [0.1, 0.2, 0.3], [1, 0, 0, 0]
                body.fullinertia = [np.nan] * 6
                body.ialt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
        robot.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
        for mesh in robot.meshes:
            mesh.scale = np.asarray(mesh.scale) * actor.scale
        name = f"{actor.handle}"
        self.attach(name, robot, path=asset.name)
        for joint in asset.dof_names:
            drive = self.spec.add_actuator(name=f"{name}/{joint}", target=f"{name}/{joint}")
            drive.trntype = mujoco.mjtTrn.mjTRN_JOINT
            drive.gaintype = mujoco.mjtGain.mjGAIN_FIXED
            drive.biastype = mujoco.mjtBias.mjBIAS_AFFINE
            drive.gainprm[0] = 1.0
            drive.ctrllimited = drive.forcelimited = mujoco.mjtLimited.mjLIMITED_FALSE

    def _add_contact_points(self) -> None:
        """Add the spheres, and the planes that `terrain.py` moves under them."""
        points = self._layout.points
        names = [b.name for b in self.spec.bodies[1:]]
        for k in range(len(points)):
            sphere = self.spec.body(names[points.body[k]]).add_geom(
                self.spec.default,
                name=f"point {k}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[points.radius[k], 0, 0],
                pos=points.pos[k],
            )
            plane = self.spec.worldbody.add_geom(
                name=f"plane {k}",
                type=mujoco.mjtGeom.mjGEOM_PLANE,
                size=[1, 1, 1],
                pos=[0, 0, -1],  # any pose that differs from the world's, which MuJoCo would share
                quat=[1, 0.1, 0, 0],
            )
            for geom in (sphere, plane):
                geom.contype = geom.conaffinity = 0
                geom.mass = 0.0
                geom.group, geom.rgba = HIDDEN, [0, 0, 0, 0]
            self.spec.add_pair(
                name=f"point {k}", geomname1=plane.name, geomname2=sphere.name, condim=3
            )


def _reads_all(sensor: ForceSensorProperties) -> bool:
    return sensor.enable_forward_dynamics_forces and sensor.enable_constraint_solver_forces


def _add_ground(spec: mujoco.MjSpec, piece: Ground) -> None:
    """Add the geom of a piece of ground to the world."""
    if piece.kind == "plane":
        normal = np.array(list(piece.params.normal))
        normal /= np.linalg.norm(normal)
        quat = np.zeros(4)
        mujoco.mju_quatZ2Vec(quat, normal)
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[0, 0, 1],
            pos=-piece.params.distance * normal,
            quat=quat,
            material="ground",
        )
        return
    assert piece.heights is not None
    heights = piece.heights
    low, high = float(heights.min()), float(heights.max())
    span = max(high - low, 1e-3)
    nx, ny = heights.shape
    half = (nx - 1) * piece.cell[0] / 2, (ny - 1) * piece.cell[1] / 2
    name = f"terrain{len(spec.hfields)}"
    spec.add_hfield(
        name=name,
        nrow=ny,
        ncol=nx,
        size=[*half, span, MARGIN],
        userdata=((heights.T - low) / span).flatten(),
    )
    transform = piece.params.transform
    r = transform.r
    quat = np.array([r.w, r.x, r.y, r.z])
    centre = np.array([piece.corner[0] + half[0], piece.corner[1] + half[1], low])
    shifted = np.zeros(3)
    mujoco.mju_rotVecQuat(shifted, centre, quat)
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_HFIELD,
        hfieldname=name,
        contype=0,
        conaffinity=0,
        pos=shifted + list(transform.p),
        quat=quat,
        material="ground",
    )


def drawn_model(
    spec: mujoco.MjSpec,
    model: mujoco.MjModel,
    textures: Sequence[Path | np.ndarray | None],
    cameras: int,
) -> mujoco.MjModel:
    """A model like `model`, compiled from `spec`, with `cameras` cameras in the world and, after
    its own materials, one of each texture: a file or pixels (height, width, 4)."""
    drawn = spec.copy()
    for k in range(cameras):
        drawn.worldbody.add_camera(name=f"camera {k}")
    for k, image in enumerate(textures):
        texture = drawn.add_texture(name=f"texture {k}", type=mujoco.mjtTexture.mjTEXTURE_2D)
        if isinstance(image, Path):
            texture.file = str(image.resolve())
        else:
            pixels = np.full((1, 1, 4), 255, np.uint8) if image is None else image
            texture.height, texture.width, texture.nchannel = *pixels.shape[:2], 3
            texture.data = np.ascontiguousarray(pixels[..., :3]).tobytes()
        roles = [""] * mujoco.mjtTextureRole.mjNTEXROLE
        roles[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture.name
        drawn.add_material(name=texture.name, textures=roles)
    try:
        compiled = drawn.compile()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise PhalanxError(f"a texture cannot be drawn: {reason}") from error
    for name in dir(model):
        held = getattr(model, name) if name.startswith(("geom_", "body_", "jnt_")) else None
        if isinstance(held, np.ndarray) and name != "body_bvhadr":
            getattr(compiled, name)[...] = held
    return compiled
