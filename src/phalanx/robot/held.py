"""A robot on flat ground whose joints are held by servos, in plain MuJoCo.

    held = HeldRobot(robot, default_pose(robot))
    held.targets[:] = ...                      # (J,) for held.drives, [rad or m]
    held.step()

The file's actuators are replaced by one servo for each joint that they move (`drives.py`), so that
a robot with motors, with position servos or without any actuator can be looked at alike.
"""

import mujoco
import numpy as np
from numpy.typing import NDArray

from phalanx.robot.base import falling_joints, falling_roots
from phalanx.robot.drives import STIFF, Array, driven_joints, drives_of
from phalanx.robot.file import RobotFile
from phalanx.robot.pose import Pose, lowest_points
from phalanx.sim import Scene
from phalanx.sim.bodies import overlaps
from phalanx.sim.mujoco_warnings import count_warnings
from phalanx.sim.scene_options import take_options

NAME = "robot"
TIMESTEP, LEAST_TIMESTEP = 1 / 500, 1e-4  # [s]
CLEARANCE = 0.01  # [m] between the robot's lowest point and the ground when it is placed

BAD = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class HeldRobot:
    """The robot of `file` in `pose`, with its joints held there.

    clearance: height of a free base's lowest point [m]. deflection: from their targets, at which
    the servos of hinges without gains of their own give all their effort [rad]. timestep: of the
    physics [s]; None takes the file's, if it is smaller than 2 ms. for_task: as in a task that is
    written for it: bodies that overlap in the pose do not collide, all servos damp, and those
    of a robot with feet are soft.
    """

    def __init__(
        self,
        file: RobotFile,
        pose: Pose,
        clearance: float = CLEARANCE,
        deflection: float = STIFF,
        timestep: float | None = None,
        for_task: bool = False,
    ) -> None:
        self.file, self.pose = file, pose
        count_warnings()  # instead of printing them
        if timestep is None:
            own = float(file.robot.options.get("timestep", TIMESTEP))
            timestep = min(max(own, LEAST_TIMESTEP), TIMESTEP)
        self.drives = drives_of(file.model, pose.qpos, deflection, pose.feet, for_task)
        self.apart = [pair[:2] for pair in overlaps(file.model, pose.qpos)] if for_task else []
        """Names of bodies that do not collide with each other."""
        self.model = self._scene(timestep).compile()
        self.data = mujoco.MjData(self.model)
        joints = driven_joints(file.model)
        self.joint_qpos = file.model.jnt_qposadr[joints]
        """(J,) addresses of the held joints in qpos."""
        self.joint_dofs = file.model.jnt_dofadr[joints]
        """(J,) the same in qvel."""
        self.start = pose.qpos.copy()
        """(nq,) the pose, placed on the ground."""
        if not file.is_fixed:
            falls = np.isin(file.model.body_rootid, list(falling_roots(file.model)))
            lowest = lowest_points(file.model, pose.qpos)[falls].min()
            lift = clearance - lowest if np.isfinite(lowest) else clearance
            self._lift(lift)
            if lift < 0 and self._stands_in(falls):
                self._lift(-lift)
        self.targets = np.zeros(len(self.drives))
        """(J,) [rad or m], where the servos pull the joints."""
        self.reset()

    def _lift(self, height: float) -> None:
        """Move the pose up [m]."""
        for adr, rises in falling_joints(self.file.model):
            self.start[adr] += height / rises

    def _stands_in(self, falls: NDArray[np.bool_]) -> bool:
        """Whether bodies that fall, a mask, start inside of the robot's others, such as a table."""
        self.data.qpos[:] = self.start
        mujoco.mj_forward(self.model, self.data)
        bodies = self.model.geom_bodyid[self.data.contact.geom[self.data.contact.dist < 0]]
        one_falls = falls[bodies].sum(axis=1) == 1
        return bool((one_falls & (bodies > 0).all(axis=1)).any())

    def _scene(self, timestep: float) -> Scene:
        scene = Scene(timestep)
        if not self.file.is_fixed:
            scene.add_ground()
        scene.attach(NAME, self.file.spec.copy(), path=self.file.path)
        spec = scene.spec
        take_options(spec, {}, NAME, self.file.robot)
        own_lights = [light for light in spec.lights if light.name != "sun"]
        for element in [*spec.sensors, *spec.actuators, *spec.keys, *own_lights]:
            spec.delete(element)
        for first, second in self.apart:
            spec.add_exclude(bodyname1=f"{NAME}/{first}", bodyname2=f"{NAME}/{second}")
        for drive in self.drives:
            anywhere = (-1e6, 1e6)
            gains = drive.stiffness, drive.damping, drive.effort
            scene.add_servo(NAME, drive.joint, *gains, control_range=anywhere)
        return scene

    def reset(self) -> None:
        """Start again in the initial pose, at rest."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = self.start
        self.targets[:] = self.start[self.joint_qpos]
        mujoco.mj_forward(self.model, self.data)

    def step(self) -> None:
        """One physics step."""
        self.data.ctrl[:] = self.targets
        mujoco.mj_step(self.model, self.data)

    @property
    def burst(self) -> bool:
        """Whether a number was not finite, or MuJoCo had to start again because of one."""
        return bool(
            any(self.data.warning[w].number for w in BAD) or not np.isfinite(self.data.qpos).all()
        )

    def contact_forces(self) -> Array:
        """(contacts,) [N] normal force of each contact now."""
        force = np.zeros(6)
        found = np.zeros(self.data.ncon)
        for i in range(self.data.ncon):
            mujoco.mj_contactForce(self.model, self.data, i, force)
            found[i] = force[0]
        return found
