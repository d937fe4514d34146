"""The content of one environment: ground, actors from MJCF or URDF files, motors, sensors.

    scene = Scene(timestep=1 / 120)
    scene.add_ground()
    scene.add_actor("cartpole", "cartpole.xml", pos=(0, 0, 2), fixed_base=True)
    scene.add_motor("cartpole", "slider_to_cart", effort=400.0)
    sim = Sim(scene, num_envs=4096, device="cuda:0", substeps=2)

A scene is built once and compiles to one `mujoco.MjModel`, which every environment shares. Names
inside an actor get its name as a prefix: joint `hinge` of actor `cartpole` is `cartpole/hinge`.
Units are SI, angles radians, quaternions (w, x, y, z), z is up.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from typing import Any

import mujoco
import numpy as np

from phalanx.errors import PhalanxError, did_you_mean
from phalanx.sim.assets import SelfCollisions, load_robot
from phalanx.sim.bodies import name_all
from phalanx.sim.compiling import MUJOCO_WARNS, compile_spec
from phalanx.sim.engines.initial import INITIAL
from phalanx.sim.placed import ActorSpec, move_constraints, write_initial
from phalanx.sim.robot import Pose, Robot, summary
from phalanx.sim.scene_options import take_options
from phalanx.sim.scenery import add_scenery
from phalanx.sim.urdf import WORLD

log = logging.getLogger(__name__)

CONTACT_FORCE = "contact_force"
SELF_CONTACT_FORCE = "self_contact_force"
INTEGRATORS = {
    "euler": mujoco.mjtIntegrator.mjINT_EULER,
    "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
}


class Scene:
    """The content of one environment, compiled on demand.

    timestep: physics step [s]. gravity: [m/s^2], world frame. iterations, ls_iterations: maximum
    steps of the constraint solver (Newton) and of the line search in each. The defaults are
    MuJoCo's and let the solver converge. Smaller numbers bound the time of the slowest environment;
    on a GPU all others wait for it.
    """

    def __init__(
        self,
        timestep: float = 1 / 120,
        gravity: Sequence[float] = (0.0, 0.0, -9.81),
        integrator: str = "implicitfast",
        iterations: int = 100,
        ls_iterations: int = 50,
    ) -> None:
        if not 0 < timestep < float("inf"):
            raise PhalanxError(f"timestep is {timestep}; it must be a positive number of seconds")
        if integrator not in INTEGRATORS:
            raise PhalanxError(
                f"unknown integrator {integrator!r}{did_you_mean(integrator, INTEGRATORS)};"
                f" accepted: {', '.join(INTEGRATORS)}"
            )
        if iterations < 1 or ls_iterations < 1:
            raise PhalanxError(
                f"iterations is {iterations} and ls_iterations {ls_iterations}; both must be 1 or"
                " more"
            )
        self.spec = mujoco.MjSpec()
        self.spec.modelname = "scene"
        self.spec.option.timestep = timestep
        self.spec.option.gravity = _vector("gravity", gravity, 3)
        self.spec.option.integrator = INTEGRATORS[integrator]
        self.spec.option.iterations = iterations
        self.spec.option.ls_iterations = ls_iterations
        self.actors: dict[str, ActorSpec] = {}
        self._warned: set[str] = set()  # what MuJoCo has warned about
        self._options: dict[str, tuple[str, Any]] = {}  # option -> (who gave it, its value)
        add_scenery(self.spec)

    def add_ground(self, friction: float = 1.0, size: float = 0.0, height: float = 0.0) -> None:
        """Add an infinite plane at z = height [m]; `size` [m] only limits the part that is
        drawn."""
        self.spec.worldbody.add_geom(
            name="ground",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[size, size, 1.0],
            pos=[0.0, 0.0, height],
            friction=[friction, 0.005, 0.0001],
            material="ground",
        )

    def add_actor(
        self,
        name: str,
        path: str | os.PathLike[str],
        pos: Sequence[float] = (0.0, 0.0, 0.0),
        quat: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
        fixed_base: bool | None = None,
        self_collisions: SelfCollisions = True,
        *,
        root: str | None = None,
        keyframe: str | None = None,
        density: float | None = None,
        armature: float | None = None,
        collapse_fixed_joints: bool = False,
        decompose: bool | Sequence[str] = False,
    ) -> Robot:
        """Place the robot of an MJCF or URDF file at `pos` [m], `quat` (w, x, y, z), world frame.

        fixed_base: True welds the root body to the world, False gives it a free joint, None follows
        the file. self_collisions: False turns off all contacts between bodies of this actor,
        "except_overlaps" those of bodies that overlap at the initial pose; bodies joined directly
        never collide. root: of an MJCF with several bodies below the world, the one to take; None
        takes all as one actor. keyframe: of an MJCF, the pose and controls that `Sim.reset`
        restores. density [kg/m^3]: of URDF links that have collision shapes but no mass; None is
        1000, except where a link without shapes is fixed to them and has their mass. armature
        [kg m^2 or kg]: of hinges and slides for which the file has none. collapse_fixed_joints
        merges bodies without joints into their parents. decompose: names of
        collision meshes to split into convex parts, True for all of them, "sdf" for those of a URDF
        that have an <sdf>; without that, a mesh collides as its convex hull.

        Physics options of an MJCF count, except those that the scene decides; see
        `phalanx.sim.scene_options`.
        Returns the robot with notes on everything dropped, added or mended; the scene has a copy of
        its `spec`, whose elements are named `<name>/...` in `scene.spec`.
        Raises PhalanxError, naming file and element, for a file that cannot be read.
        """
        self._check_new(name)
        robot = load_robot(
            path,
            fixed_base=fixed_base,
            root=root,
            keyframe=keyframe,
            self_collisions=self_collisions,
            density=density,
            armature=armature,
            collapse_fixed_joints=collapse_fixed_joints,
            decompose=decompose,
        )
        unused = take_options(self.spec, self._options, name, robot)
        if offers := [note for note in robot.notes if note.kind == "offer"] + unused:
            log.warning("%s: %s", path, summary(offers))
        robot.notes += unused
        self._warned |= {note.item for note in robot.notes if note.text == MUJOCO_WARNS}
        # A copy: MuJoCo crashes where a spec is compiled that another one has taken.
        self.attach(name, robot.spec.copy(), pos, quat, path, robot.initial)
        return robot

    def attach(
        self,
        name: str,
        robot: mujoco.MjSpec,
        pos: Sequence[float] = (0.0, 0.0, 0.0),
        quat: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
        path: str | os.PathLike[str] = "",
        initial: Pose | None = None,
    ) -> None:
        """Place a robot given as a spec, as `load_robot` returns it; the scene then owns the spec.
        path: the file that error messages name. initial: the pose that `Sim.reset` restores."""
        self._check_new(name)
        pos, quat = _vector("pos", pos, 3), _vector("quat", quat, 4)
        name_all(robot)
        roots = robot.worldbody.bodies
        fixed = not any(j.type == mujoco.mjtJoint.mjJNT_FREE for b in roots for j in b.joints)
        unit = np.array(quat) / (np.linalg.norm(quat) or 1.0)
        move_constraints(robot, np.array(pos), unit)
        frame = self.spec.worldbody.add_frame(pos=pos, quat=quat)
        first_actuator = len(self.spec.actuators)
        self.spec.attach(robot, frame=frame, prefix=f"{name}/")
        if (link := self.spec.body(f"{name}/{WORLD}")) is not None:
            self._rename(link, f"{name}/world")
        file = os.fspath(path)
        self.actors[name] = ActorSpec(
            name, file, fixed, initial, np.array(pos), unit, first_actuator
        )

    def add_motor(
        self, actor: str, joint: str, effort: float, control_range: tuple[float, float] = (-1, 1)
    ) -> None:
        """Add a motor on `joint`: force or torque = effort [N or N m] x control, with the control
        clamped to its range."""
        name = self._joint(actor, joint)
        motor = self.spec.add_actuator(name=name, target=name)
        motor.trntype = mujoco.mjtTrn.mjTRN_JOINT
        motor.set_to_motor()
        motor.gear = [effort, 0, 0, 0, 0, 0]
        motor.ctrlrange = list(control_range)
        motor.ctrllimited = True

    def add_servo(
        self,
        actor: str,
        joint: str,
        stiffness: float,
        damping: float,
        effort: float,
        control_range: tuple[float, float],
    ) -> None:
        """Add a servo on `joint`. Its control is a position [rad or m], or a velocity [rad/s or
        m/s] if `stiffness` is 0. Force or torque = stiffness x (control - position) - damping x
        velocity, or damping x (control - velocity); at most `effort` [N or N m].

        stiffness [N/m or N m/rad], damping [N s/m or N m s/rad]; control is clamped to its range.
        """
        name = self._joint(actor, joint)
        servo = self.spec.add_actuator(name=name, target=name)
        servo.trntype = mujoco.mjtTrn.mjTRN_JOINT
        servo.gaintype, servo.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
        servo.gainprm = [stiffness or damping, *[0] * 9]
        servo.biasprm = [0, -stiffness, -damping, *[0] * 7]
        servo.forcerange, servo.forcelimited = [-effort, effort], True
        servo.ctrlrange, servo.ctrllimited = list(control_range), True

    def add_contact_force_sensors(self, actor: str, bodies: Iterable[str] | None = None) -> None:
        """Measure the net contact force on each body of an actor (all of them by default).

        `Sim.actor(name).contact_force` returns them, (N, bodies, 3) [N], world frame.
        """
        for body in self._bodies_of(actor, bodies):
            self._add_contact_sensor(f"{body}:{CONTACT_FORCE}", body)

    def add_self_contact_sensors(self, actor: str, bodies: Iterable[str] | None = None) -> None:
        """Measure the net force on each body of an actor (all of them by default) of its contacts
        with the other bodies of that actor.

        `Sim.actor(name).self_contact_force` returns them, (N, bodies, 3) [N], world frame.
        """
        for body in self._bodies_of(actor, bodies):
            root = self.spec.body(body)
            while root.parent.name != "world":
                root = root.parent
            self._add_contact_sensor(
                f"{body}:{SELF_CONTACT_FORCE}",
                body,
                reftype=mujoco.mjtObj.mjOBJ_XBODY,
                refname=root.name,
            )

    def _bodies_of(self, actor: str, bodies: Iterable[str] | None) -> list[str]:
        prefix = f"{self._actor(actor).name}/"
        own = [b.name for b in self.spec.bodies if b.name.startswith(prefix)]
        chosen = own if bodies is None else [prefix + b for b in bodies]
        for body in chosen:
            if body not in own:
                raise PhalanxError(self._unknown("body", actor, body, own))
        return chosen

    def _add_contact_sensor(self, name: str, body: str, **other: Any) -> None:
        # dataspec 1 << 1 is the force, reduction 3 sums all contacts in the world frame
        self.spec.add_sensor(
            name=name,
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=body,
            intprm=[2, 3, 1],
            **other,
        )

    def compile(self, memory: int = -1) -> mujoco.MjModel:
        """The model of one environment. memory [bytes] for contacts, -1 for MuJoCo's choice.
        Raises PhalanxError with the compiler's reason."""
        self.spec.memory = memory
        if any(a.initial for a in self.actors.values()) and self.spec.key(INITIAL) is None:
            self.spec.add_key(name=INITIAL)  # MuJoCo fills it with zeros and the zero position
        try:
            model, warned = compile_spec(self.spec)
        except ValueError as error:
            reason = " ".join(str(error).split())
            files = ", ".join(a.path for a in self.actors.values()) or "no actors"
            raise PhalanxError(f"the scene ({files}) does not compile: {reason}") from error
        for text in warned:
            if text not in self._warned:
                self._warned.add(text)
                log.warning("%s: %s", MUJOCO_WARNS, text)
        write_initial(model, self.actors.values())
        if model.ntree < 2:  # one robot is one island; searching for more takes 7 % of a step
            model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ISLAND)
        return model

    def _rename(self, body: mujoco.MjsBody, name: str) -> None:
        for exclude in self.spec.excludes:
            for end in ("bodyname1", "bodyname2"):
                if getattr(exclude, end) == body.name:
                    setattr(exclude, end, name)
        body.name = name

    def _check_new(self, name: str) -> None:
        if name in self.actors or not name or "/" in name:
            raise PhalanxError(
                f"actor name {name!r} is empty, contains a '/' or is taken; choose another"
            )

    def _actor(self, name: str) -> ActorSpec:
        if name not in self.actors:
            raise PhalanxError(
                f"no actor {name!r} in the scene{did_you_mean(name, self.actors)};"
                f" actors: {', '.join(self.actors) or 'none'}"
            )
        return self.actors[name]

    def _joint(self, actor: str, joint: str) -> str:
        prefix = f"{self._actor(actor).name}/"
        names = [j.name for j in self.spec.joints if j.name.startswith(prefix)]
        if prefix + joint not in names:
            raise PhalanxError(self._unknown("joint", actor, prefix + joint, names))
        return prefix + joint

    def _unknown(self, kind: str, actor: str, name: str, names: list[str]) -> str:
        own = [n.split("/", 1)[1] for n in names]
        asked = name.split("/", 1)[1]
        return (
            f"no {kind} {asked!r} in {self.actors[actor].path}{did_you_mean(asked, own)};"
            f" the file has: {', '.join(own) or 'none'}"
        )


def _vector(name: str, values: Sequence[float], size: int) -> list[float]:
    vector = [float(v) for v in values]
    if len(vector) != size or not np.isfinite(vector).all():
        raise PhalanxError(f"{name} is {tuple(vector)}; it must be {size} finite numbers")
    return vector
