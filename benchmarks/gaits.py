"""Makes the walk and the run that Phalanx ships, from published gait data.

    uv run python benchmarks/gaits.py       # writes src/phalanx/motion/clips/walk.json and run.json

The clips are for the humanoid of `humanoid_amp.xml`, with 28 hinges. A test makes them again and
compares; another machine may round the last digit, 1e-6, differently.

Phalanx cannot freely ship recorded clips, so it ships these. The curves below are typical adults'
joint angles over the gait cycle, as plotted in the cited books and papers. They were written from
knowledge of those plots, not digitised: accurate to about 2 degrees for hip, knee and ankle in
walking, 3 to 5 in running; trunk and arms are rough.

On another body the measured angles would make the feet slide and sink. Three steps adapt them:

1. `fit` finds the joint angles closest to the measured ones, and a path of the pelvis, for which
the
   foot on the ground stays in place: it rolls over its heel, stands flat, rolls over its toes.
   Curves stay smooth, as sums of a few harmonics. An error of a millimetre or two remains.
2. In running the centre of mass falls freely in flight, and on the ground a half sine of force
pushes
   it up, like a spring; the pelvis moves accordingly. In walking its path is free.
3. Inverse kinematics removes the remaining error, foot by foot, and moves the feet from below the
   hips to their step width, with toes slightly outward.

The speed is the requested one, and the cycle time is close to the typical one for legs of 0.83 m.
"""

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from phalanx import motion, tasks
from phalanx.motion.clip import Clip, checked
from phalanx.motion.json_file import write_json
from phalanx.motion.robot import Robot, geom_points
from phalanx.motion.rotation import Array, about, conjugate, multiply, rotate, rotation_vector

HUMANOID = Path(tasks.__file__).parent / "assets" / "humanoid_amp.xml"
CLIPS = Path(motion.__file__).parent / "clips"
FPS = 120.0
GRAVITY = 9.81  # [m/s^2]
X, Y, Z = np.eye(3)
SIDES = {"right": -1.0, "left": 1.0}  # sides and their sign of y
CLEARANCE = 0.02  # of the sole in the middle of its swing [m]
KNEE_LEAST = 4.0  # smallest flexion [degrees]: a straight leg cannot extend further
HARMONICS = 9  # of an angle over the cycle
# Tolerances of `fit`, as standard deviations.
OFF_ANGLE = np.radians(4.0)  # from the measured angles
SMOOTH_ORDER = 5  # above this order, higher harmonics may change less
OFF_CONTACT = 0.001  # of the standing foot from its footprint [m]
OFF_LANDING = 0.01  # of the heel from its landing point, just before it lands [m]
OFF_STRIDE = 0.003  # [m]
LANDING = 0.035  # the end of a swing, as a fraction of the cycle
EASE = 0.1  # time in which a swinging foot leaves or reaches its footprint, likewise
SOFT_LANDING = 0.5  # fraction of its speed over the ground that a foot loses before it lands
LEG = "hip_x hip_y hip_z knee ankle_x ankle_y ankle_z".split()


@dataclass(frozen=True)
class Gait:
    """Angles [degrees] of the right leg, every 5 % of its cycle from its first contact on; the left
    leg is half a cycle later. Swings of trunk and arms are amplitudes [degrees]."""

    name: str
    speed: float
    """[m/s]"""
    cycle: float
    """Desired cycle time [s]."""
    thigh: tuple[float, ...]
    """Flexion: of the thigh against the vertical."""
    knee: tuple[float, ...]
    """Flexion."""
    ankle: tuple[float, ...]
    """Dorsiflexion: toes up."""
    toe_off: float
    """When the foot leaves the ground, as a part of the cycle."""
    flat: tuple[float, float]
    """From when to when the foot is flat on the ground."""
    step_width: float
    """Between the middles of both feet [m]."""
    toe_out: float
    sway: float
    """Displacement of the pelvis to each side, over the foot on the ground [m]."""
    obliquity: float
    """Pelvis: the side of the loaded leg rises."""
    pelvis_turn: float
    """Pelvis: the side of the front leg turns forward."""
    chest_turn: float
    """The other way round."""
    pelvis_lean: float
    """Forward, always."""
    chest_lean: float
    """Forward against the pelvis, always."""
    arm_out: float
    """Upper arms away from the body."""
    shoulder: tuple[float, float]
    """Flexion in the middle, and its swing against the leg's."""
    elbow: tuple[float, float]
    """Flexion in the middle, and its swing."""
    source: str


def _curve(values: str) -> tuple[float, ...]:
    return tuple(map(float, values.split()))


WALK = Gait(
    name="walk",
    speed=1.3,
    cycle=1.02,
    # At natural cadence. Knee and ankle: D. A. Winter, Biomechanics and Motor Control of Human
    # Movement, 4th ed., 2009. Thigh: M. P. Kadaba et al., J. Orthop. Res. 8 (1990), the hip's angle
    # less the pelvis's tilt, as J. Perry and J. M. Burnfield, Gait Analysis, 2010, plot it too.
    thigh=_curve("25 23.5 20.5 16 11 6 1 -4 -9.5 -14.5  -18 -18 -11.5 -1 8.5 16.5 22.5 26 27 26.5"),
    knee=_curve("5 12 17.5 19.5 17.5 14 10.5 8 7 8.5  13 24 38 51 59 60 52 37 19.5 7"),
    ankle=_curve("0 -4.5 -3.5 1 4 6 7.5 8.5 9.5 9.5  6 -4 -16 -18 -11 -5.5 -1.5 0.5 1 0.5"),
    toe_off=0.62,
    flat=(0.09, 0.36),
    step_width=0.11,
    toe_out=5.0,
    # Pelvis: Kadaba et al. 1990; Perry and Burnfield 2010.
    sway=0.022,
    obliquity=4.0,
    pelvis_turn=4.5,
    chest_turn=3.0,
    pelvis_lean=0.0,
    chest_lean=2.0,
    # Arms: M. P. Murray et al., Am. J. Phys. Med. 46 (1967).
    arm_out=8.0,
    shoulder=(-5.0, 15.0),
    elbow=(25.0, 10.0),
    source="synthesised from joint angles of Winter 2009, Kadaba 1990, Murray 1967",
)
RUN = Gait(
    name="run",
    speed=3.0,
    cycle=0.68,
    # T. F. Novacheck, The biomechanics of running, Gait and Posture 7 (1998), running at 3.2 m/s;
    # the pelvis's forward tilt is taken off the hip's flexion.
    thigh=_curve(
        "28 26 21.5 15 7.5 -1 -9.5 -17 -22 -22.5  -17.5 -8 4 16 26.5 34.5 38.5 38.5 35 31"
    ),
    knee=_curve("16 27 37 42 41 35.5 28 20.5 18 25  41 60 77 88 91 85 70.5 50 28 14.5"),
    ankle=_curve("6 8 16 22 24 20.5 11 -4 -18 -22  -16 -9.5 -5 -2 0 1.5 3 5 7 7"),
    toe_off=0.38,
    flat=(0.07, 0.18),
    step_width=0.12,
    toe_out=4.0,
    sway=0.008,
    obliquity=3.0,
    pelvis_turn=5.0,
    chest_turn=8.0,
    pelvis_lean=5.0,
    chest_lean=4.0,
    # Arms: R. N. Hinrichs, Int. J. Sport Biomech. 3 (1987), in rough figures.
    arm_out=12.0,
    shoulder=(-12.0, 26.0),
    elbow=(92.0, 10.0),
    source="synthesised from joint angles of Novacheck 1998, Hinrichs 1987",
)
GAITS = {gait.name: gait for gait in (WALK, RUN)}


def series(values: tuple[float, ...]) -> Array:
    """Coefficients of the smooth periodic curve through evenly spaced `values`, (1 + 2 HARMONICS,):
    the mean, then cosines and sines of rising order; the very highest order is left out."""
    terms = 2 * np.fft.rfft(values)[: HARMONICS + 1] / len(values)
    return np.concatenate(
        [[terms[0].real / 2], np.stack([terms[1:].real, -terms[1:].imag], -1).ravel()]
    )


def waves(phase: Array, orders: Array) -> Array:
    """Columns that coefficients of a periodic curve multiply: 1, then cosine and sine of each of
    `orders`, (T, 1 + 2 len(orders)); phase in cycles."""
    angle = 2 * np.pi * phase[:, None] * orders
    pairs = np.stack([np.cos(angle), np.sin(angle)], -1).reshape(len(phase), -1)
    return np.concatenate([np.ones((len(phase), 1)), pairs], axis=1)


def periodic_angles(values: tuple[float, ...], phase: Array) -> Array:
    """The smooth curve through evenly spaced `values` [degrees], at `phase`, (T,) [rad]."""
    return np.radians(waves(phase, ANGLE) @ series(values))


GRID = np.arange(100) / 100
ANGLE = np.arange(1, HARMONICS + 1)
PELVIS = np.array([2, 4])
"""Orders of the pelvis's path: both halves of a cycle are the same."""


def smoothstep(x: Array) -> Array:
    """0 below 0, 1 above 1, with zero slope at both ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def synthesize(gait: Gait, robot: Robot) -> Clip:
    """One cycle of a gait for the humanoid of `humanoid_amp.xml`, a loop of about FPS frames a
    second that begins as the right foot comes down and goes along x."""
    return _Synthesis(gait, robot).clip()


@dataclass(frozen=True)
class Fit:
    """A gait fitted to a robot: periodic curves, as coefficients of `waves`."""

    angles: Array
    """(3, 1 + 2 HARMONICS) [rad]: flexion of thigh against the vertical, knee and ankle."""
    stride: float
    """[m]"""
    path: Array
    """(1 + 2 len(PELVIS), 2) [m]: how far the pelvis is ahead of a steady pace, and how high."""


class _Synthesis:
    """The cycle of one gait. `phase` is that of the right leg, in cycles."""

    def __init__(self, gait: Gait, robot: Robot) -> None:
        self.gait, self.robot = gait, robot
        rest = robot.rest().pos[0]
        hip, knee, ankle = (rest[robot.body(f"right_{b}")] for b in ("thigh", "shin", "foot"))
        self.hip = hip
        self.thigh_length, self.shin_length = (
            np.linalg.norm(knee - hip),
            np.linalg.norm(ankle - knee),
        )
        points = sole(robot, "right_foot")
        self.heel = np.array([points[:, 0].min(), 0.0, points[:, 2].min()])
        self.toe = np.array([points[:, 0].max(), 0.0, points[:, 2].min()])
        self.measured = np.radians([series(c) for c in (gait.thigh, gait.knee, gait.ankle)])
        self.running = gait.toe_off < 0.5

    def clip(self) -> Clip:
        gait, robot = self.gait, self.robot
        fit = self.fit(None)
        cycle = fit.stride / gait.speed  # [s]
        if self.running:
            for _ in range(2):  # the centre of mass and the legs depend on each other
                fit = self.fit(self.bounce(GRID, self.pose(GRID, fit.angles), cycle))
                cycle = fit.stride / gait.speed
        count = 2 * round(cycle * FPS / 2)  # even: each leg has the other's frames
        phase = np.arange(count) / count
        root_quat, joint_pos = self.pelvis_quat(phase), self.pose(phase, fit.angles)
        for _ in range(3 if self.running else 1):  # as above
            root_pos = self.pelvis_path(phase, fit)
            if self.running:
                root_pos += self.bounce(phase, joint_pos, cycle)
            feet = {side: self.foot_target(side, phase, fit, root_pos) for side in SIDES}
            root_pos[:, 2] -= max(
                self.out_of_reach(side, root_pos, root_quat, pos) for side, (pos, _) in feet.items()
            )
            for side, (pos, quat) in feet.items():
                place_foot(robot, side, root_pos, root_quat, joint_pos, pos, quat)
        return checked(
            Clip(
                name=gait.name,
                fps=count / cycle,
                loop=True,
                root_pos=np.concatenate([root_pos, root_pos[:1] + fit.stride * X]),
                root_quat=np.concatenate([root_quat, root_quat[:1]]),
                joints=tuple(robot.joints),
                joint_pos=np.concatenate([joint_pos, joint_pos[:1]]),
                source=gait.source,
            ),
            gait.name,
        )

    # The pose ------------------------------------------------------------------------------------

    def pelvis_quat(self, phase: Array) -> Array:
        """(T, 4)"""
        gait, wave = self.gait, 2 * np.pi * phase
        turn = about(Z, np.radians(gait.pelvis_turn) * np.cos(wave))
        lean = about(Y, np.full_like(phase, np.radians(gait.pelvis_lean)))
        early = gait.toe_off / 2 - 0.1  # the load is taken before the middle of stance
        raised = np.radians(gait.obliquity) * np.cos(wave - 2 * np.pi * early)
        return multiply(turn, multiply(lean, about(X, -raised)))

    def pose(self, phase: Array, angles: Array) -> Array:
        """All joint angles, (T, J) [rad], with legs that move in the plane of their hips."""
        gait, wave = self.gait, 2 * np.pi * phase
        pose = np.zeros((len(phase), len(self.robot.joints)))

        def put(joint: str, angle: Array | float) -> None:
            pose[:, self.robot.joints.index(joint)] = angle

        degree = np.pi / 180
        pelvis = rotation_vector(self.pelvis_quat(phase))
        chest = gait.chest_turn * degree * np.cos(wave)
        put("abdomen_x", -pelvis[:, 0])
        put("abdomen_y", gait.chest_lean * degree)
        put("abdomen_z", -chest - pelvis[:, 2])
        put("neck_y", -(gait.chest_lean + gait.pelvis_lean) * degree)
        put("neck_z", chest)
        for side, sign in SIDES.items():
            own = phase if side == "right" else phase + 0.5
            thigh, knee, ankle = angles @ waves(own, ANGLE).T
            put(f"{side}_hip_y", -thigh - gait.pelvis_lean * degree)
            put(f"{side}_knee", knee)
            put(f"{side}_ankle_y", -ankle)
            arm = np.cos(2 * np.pi * own)
            put(f"{side}_shoulder_x", sign * gait.arm_out * degree)
            put(f"{side}_shoulder_y", -degree * (gait.shoulder[0] - gait.shoulder[1] * arm))
            put(f"{side}_elbow", -degree * (gait.elbow[0] - gait.elbow[1] * arm))
        return pose

    def right_hip(self, phase: Array) -> Array:
        """(T, 3) [m] from the pelvis, world axes."""
        return rotate(self.pelvis_quat(phase), np.tile(self.hip, (len(phase), 1)))

    def right_leg(self, angles: Array) -> tuple[Array, Array, Array]:
        """The right ankle's x and z [m] from the hip, in the leg's plane, and the foot's pitch
        [rad], toes up, (..., T) each; angles: (..., 3, T) [rad] of thigh, knee and ankle."""
        thigh, knee, ankle = np.moveaxis(angles, -2, 0)
        shin = thigh - knee
        x = self.thigh_length * np.sin(thigh) + self.shin_length * np.sin(shin)
        z = self.thigh_length * np.cos(thigh) + self.shin_length * np.cos(shin)
        return x, -z, shin + ankle

    def pelvis_path(self, phase: Array, fit: Fit) -> Array:
        """(T, 3) [m], where the right foot stands on the ground at x = 0; a runner's before it
        bounces."""
        path = np.zeros((len(phase), 3))
        path[:, [0, 2]] = waves(phase, PELVIS) @ fit.path
        path[:, 0] += fit.stride * phase
        path[:, 1] = -self.gait.sway * np.cos(2 * np.pi * (phase - self.gait.toe_off / 2))
        return path

    def bounce(self, phase: Array, joint_pos: Array, cycle: float) -> Array:
        """How the pelvis of a runner moves, (T, 3) [m] from a steady path: the centre of mass goes
        forward steadily, falls freely in flight and is pushed up by a half sine of force on the
        ground."""
        step, contact = cycle / 2, self.gait.toe_off * cycle  # [s]
        air, t = step - contact, phase * cycle % step
        push = GRAVITY * np.pi * step / (2 * contact)  # the most of it [m/s^2]
        free = -GRAVITY * (air * t + t**2) / 2
        pushed = push * contact / np.pi * (t - contact / np.pi * np.sin(np.pi * t / contact))
        fall = GRAVITY * (air - (t - contact)) * (t - contact) / 2
        height = np.where(t < contact, free + pushed, fall)
        centre = centre_of_mass(
            self.robot, np.zeros((len(t), 3)), self.pelvis_quat(phase), joint_pos
        )
        moved = np.stack([-centre[:, 0], 0 * t, height - centre[:, 2]], axis=-1)
        return moved - moved.mean(axis=0)

    # Angles that keep the foot where it stands ----------------------------------------------------

    def fit(self, bounce: Array | None) -> Fit:
        """The angles closest to the measured ones, and the pelvis's path, for which the foot on the
        ground stays in place: heel, then sole, then toes. bounce: (T, 3) [m] on GRID, or None for a
        pelvis whose path is free."""
        gait, phase = self.gait, GRID
        angle_waves, path_waves = waves(phase, ANGLE), waves(phase, PELVIS)
        curvature = np.concatenate([[0], np.repeat(ANGLE, 2) ** 2]) / SMOOTH_ORDER**2
        begin, end = gait.flat
        stance = phase <= gait.toe_off
        on_heel, on_toe = phase <= end, stance & (phase >= begin)
        swing = np.clip((phase - gait.toe_off) / (1 - gait.toe_off), 0, 1)
        clear = CLEARANCE * np.sin(np.pi * swing) ** 2
        hip = self.right_hip(phase) + (0 if bounce is None else bounce)
        wave_size = np.array([0.01, 0.02]) if bounce is None else np.array([1e-5, 1e-5])  # [m]

        def unpack(v: Array) -> tuple[Array, Array, Array]:
            return (
                v[..., :coefficients].reshape(*v.shape[:-1], 3, -1),
                v[..., coefficients],
                v[..., coefficients + 1 :].reshape(*v.shape[:-1], -1, 2),
            )

        def residual(v: Array) -> Array:
            """Residuals (K, R) for K guesses, each divided by its tolerance."""
            coefficient, stride, path = unpack(v)
            angles = coefficient @ angle_waves.T  # (K, 3, T)
            away = coefficient - self.measured
            bent = (away * curvature) @ angle_waves.T
            x, z, pitch = self.right_leg(angles)
            walked = np.moveaxis(path_waves @ path, -1, 0)  # (2, K, T)
            x = x + hip[:, 0] + stride[:, None] * phase + walked[0]
            z = z + hip[:, 2] + walked[1]
            rows = [
                (away @ angle_waves.T / OFF_ANGLE).reshape(len(v), -1),
                (bent / OFF_ANGLE).reshape(len(v), -1),
                np.minimum(angles[:, 1] - np.radians(KNEE_LEAST + 1), 0) / np.radians(0.2),
                (path[:, 1:] / wave_size).reshape(len(v), -1),
                (stride[:, None] - gait.speed * gait.cycle) / OFF_STRIDE,
            ]
            for point, down in ((self.heel, on_heel), (self.toe, on_toe)):
                ahead = x + point[0] * np.cos(pitch) - point[2] * np.sin(pitch) - point[0]
                above = z + point[0] * np.sin(pitch) + point[2] * np.cos(pitch)
                rows += [ahead[:, down] / OFF_CONTACT, above[:, down] / OFF_CONTACT]
                rows.append(np.minimum(above - clear, 0) / OFF_CONTACT)
                if down is on_heel:
                    about_to = phase > 1 - LANDING
                    rows.append((ahead[:, about_to] - stride[:, None]) / OFF_LANDING)
            return np.concatenate(rows, axis=1)

        coefficients = self.measured.size
        v = np.zeros(coefficients + 1 + 2 * path_waves.shape[1])
        v[:coefficients], v[coefficients] = self.measured.ravel(), gait.speed * gait.cycle
        v[coefficients + 2] = self.thigh_length + self.shin_length
        tiny = 1e-6
        for _ in range(25):
            tried = residual(np.concatenate([v[None], v + tiny * np.eye(len(v))]))
            jacobian = (tried[1:] - tried[0]).T / tiny
            step = np.linalg.lstsq(jacobian, -tried[0], rcond=None)[0]
            v = v + step * min(1.0, 0.3 / np.abs(step).max())
            if np.abs(step).max() < 1e-4:
                break
        angles, stride, path = unpack(v)
        return Fit(angles, float(stride), path)

    # From the pelvis to both feet -----------------------------------------------------------------

    def pitch(self, phase: Array, fit: Fit) -> Array:
        """Pitch of the right foot [rad], toes up: as fitted, but exactly flat in the flat phase."""
        gait = self.gait
        pitch = self.right_leg(fit.angles @ waves(phase, ANGLE).T)[2]
        begin, end = gait.flat
        ease = 0.03
        flat = smoothstep((phase - begin + ease) / ease) * smoothstep((end + ease - phase) / ease)
        pitch = pitch * (1 - flat)
        pitch = np.where(phase < begin, np.maximum(pitch, 0), pitch)
        return np.where((phase > end) & (phase < gait.toe_off), np.minimum(pitch, 0), pitch)

    def foot_quat(self, phase: Array, fit: Fit) -> Array:
        """Of the right foot, (T, 4)."""
        out = about(Z, np.full_like(phase, -np.radians(self.gait.toe_out)))
        return multiply(out, about(Y, -self.pitch(phase, fit)))

    def rolling(self, phase: Array, fit: Fit) -> Array:
        """The right ankle (T, 3) [m] while the foot is on the ground, whose flat footprint is below
        x = 0: the foot turns about the edge of its heel, then of its toes."""
        quat = self.foot_quat(phase, fit)
        pivot = np.where((self.pitch(phase, fit) > 0)[:, None], self.heel, self.toe)
        flat = about(Z, np.full_like(phase, -np.radians(self.gait.toe_out)))
        print_y = np.array([0, -self.gait.step_width / 2, 0])
        return print_y + rotate(flat, pivot) * [1, 1, 0] - rotate(quat, pivot)

    def right_foot(self, phase: Array, fit: Fit, root_pos: Array) -> tuple[Array, Array]:
        """Position of the right ankle, (T, 3) [m], and rotation of the foot, (T, 4): on its
        footprint while on the ground, as fitted in swing, with a smooth transition at both ends."""
        gait, count = self.gait, len(phase)
        off = int(gait.toe_off * count)  # the last frame on the ground
        stance = self.rolling(phase, fit)
        x, z, _ = self.right_leg(fit.angles @ waves(phase, ANGLE).T)
        free = root_pos + self.right_hip(phase) + np.stack([x, 0 * x, z], axis=-1)
        free[:, 1] = stance[0, 1]
        around = np.concatenate([free[-1:] - fit.stride * X, free, free[:1] + fit.stride * X])
        speed = (around[2:] - around[:-2]) * count / 2  # [m per cycle]
        tiny = 1e-4
        roll = self.rolling(np.array([phase[off] - tiny, phase[off], 0.0, tiny]), fit)
        leave, land = (roll[1] - roll[0]) / tiny - speed[off], (roll[3] - roll[2]) / tiny - speed[0]
        after, until = (np.clip(t / EASE, 0, 1)[:, None] for t in (phase - phase[off], 1 - phase))
        ease = (2 * after**3 - 3 * after**2 + 1) * (stance[off] - free[off])
        ease += (2 * until**3 - 3 * until**2 + 1) * (stance[0] - free[0])
        ease += (after**3 - 2 * after**2 + after) * EASE * leave
        ease -= (until**3 - 2 * until**2 + until) * EASE * SOFT_LANDING * land
        pos = np.where(np.arange(count)[:, None] <= off, stance, free + ease)
        return pos, self.foot_quat(phase, fit)

    def foot_target(
        self, side: str, phase: Array, fit: Fit, root_pos: Array
    ) -> tuple[Array, Array]:
        """The same for either side: the left foot is the right one's mirror image, half a cycle
        later."""
        pos, quat = self.right_foot(phase, fit, root_pos)
        if side == "right":
            return pos, quat
        half = len(pos) // 2
        pos = np.concatenate([pos[half:], pos[:half] + fit.stride * X]) - fit.stride / 2 * X
        return pos * [1.0, -1.0, 1.0], np.roll(quat, -half, axis=0) * [1.0, -1.0, 1.0, -1.0]

    def out_of_reach(self, side: str, root_pos: Array, root_quat: Array, ankle: Array) -> float:
        """Distance [m] by which the pelvis must sink so that no knee has to be straighter than
        KNEE_LEAST."""
        a, b = self.thigh_length, self.shin_length
        longest = np.sqrt(a**2 + b**2 + 2 * a * b * np.cos(np.radians(KNEE_LEAST)))
        hip = root_pos + rotate(
            root_quat, np.tile(self.hip * [1, -SIDES[side], 1], (len(ankle), 1))
        )
        away = np.linalg.norm((hip - ankle)[:, :2], axis=-1)
        above = np.sqrt(longest**2 - np.minimum(away, longest) ** 2)
        return max(float(np.max((hip - ankle)[:, 2] - above)), 0.0)


def place_foot(
    robot: Robot,
    side: str,
    root_pos: Array,
    root_quat: Array,
    joint_pos: Array,
    pos: Array,
    quat: Array,
) -> None:
    """Change the angles of one leg in `joint_pos`, (T, J) [rad], so that its foot is at `pos`,
    (T, 3) [m], with rotation `quat`, (T, 4); of all solutions, the closest."""
    model, data = robot.model, mujoco.MjData(robot.model)
    leg = [robot.joints.index(f"{side}_{joint}") for joint in LEG]
    dofs = [model.joint(f"{side}_{joint}").dofadr[0] for joint in LEG]
    foot = robot.body_ids[robot.body(f"{side}_foot")]
    jacobian = np.zeros((6, model.nv))
    start = joint_pos[:, leg].copy()
    for t in range(len(joint_pos)):
        for _ in range(30):
            at = slice(t, t + 1)
            data.qpos[:] = robot.qpos(root_pos[at], root_quat[at], joint_pos[at])[0]
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            turn = rotation_vector(multiply(quat[t], conjugate(data.xquat[foot])))
            error = np.concatenate([pos[t] - data.xpos[foot], turn])
            mujoco.mj_jacBody(model, data, jacobian[:3], jacobian[3:], foot)
            own = jacobian[:, dofs]
            inverse = own.T @ np.linalg.inv(own @ own.T + 1e-8 * np.eye(6))
            free = np.eye(len(leg)) - inverse @ own
            step = inverse @ error + free @ (start[t] - joint_pos[t, leg])
            joint_pos[t, leg] += np.clip(step, -0.3, 0.3)
            if np.abs(step).max() < 1e-6:
                break


def centre_of_mass(robot: Robot, root_pos: Array, root_quat: Array, joint_pos: Array) -> Array:
    """(T, 3) [m]."""
    model, data, centre = robot.model, mujoco.MjData(robot.model), []
    for qpos in robot.qpos(root_pos, root_quat, joint_pos):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        centre.append(data.subtree_com[robot.body_ids[0]].copy())
    return np.array(centre)


def sole(robot: Robot, body: str) -> Array:
    """The corners of a foot's sole, (P, 3) [m] in the frame of the foot, at rest."""
    model, foot = robot.model, robot.body_ids[robot.body(body)]
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    points = []
    for geom in np.flatnonzero(model.geom_bodyid == foot):
        local, radius = geom_points(model, geom)
        placed = data.geom_xpos[geom] + local @ data.geom_xmat[geom].reshape(3, 3).T
        points.append(placed - [0.0, 0.0, radius] - data.xpos[foot])
    corners = np.concatenate(points)
    corners = corners[corners[:, 2] < corners[:, 2].min() + 0.002]
    return corners @ data.xmat[foot].reshape(3, 3)


def main() -> None:
    robot = Robot(mujoco.MjModel.from_xml_path(str(HUMANOID)))
    for name, gait in GAITS.items():
        write_json(synthesize(gait, robot), CLIPS / f"{name}.json")


if __name__ == "__main__":
    main()
