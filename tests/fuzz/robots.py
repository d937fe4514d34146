"""Robot files: MJCF, URDF and meshes, with numbers and words of MuJoCo's schema in odd places."""

import dataclasses
import io
import json
import re

import mujoco
import numpy as np
import trimesh
from rich.console import Console

from fuzz import mutate
from phalanx.cli.robot_tables import show
from phalanx.robot import HeldRobot, default_pose, drop, facts_of, read_robot
from phalanx.sim.assets import load_robot

MJCF = b"""<mujoco model="r">
  <compiler angle="radian" meshdir="." boundmass="0.001"/>
  <option timestep="0.002" cone="elliptic" impratio="10"><flag contact="enable"/></option>
  <default><joint damping="0.1" armature="0.01"/><geom friction="1 0.1 0.1"/>
    <default class="leg"><geom rgba="1 0 0 1"/><position kp="10" kv="1"/></default></default>
  <asset><mesh name="m" file="m.obj" scale="1 1 1"/><texture name="t" type="2d" builtin="flat"
      width="8" height="8"/><material name="a" texture="t"/>
    <hfield name="h" nrow="3" ncol="3" size="1 1 1 1"/></asset>
  <worldbody>
    <body name="base" pos="0 0 1" quat="1 0 0 0"><freejoint name="root"/>
      <inertial pos="0 0 0" mass="2" diaginertia="0.1 0.1 0.1"/>
      <geom name="g" type="box" size="0.1 0.1 0.1" material="a"/><site name="s" pos="0 0 0.1"/>
      <camera name="c" fovy="60"/>
      <body name="leg" pos="0.3 0 0" childclass="leg"><joint name="j" axis="0 1 0" range="-1 1"/>
        <geom name="f" type="capsule" fromto="0 0 0 0 0 -0.3" size="0.03" mass="0.5"/>
        <body name="foot" pos="0 0 -0.3"><joint name="k" type="slide" stiffness="10"
            frictionloss="0.1" actuatorfrcrange="-9 9"/><geom type="mesh" mesh="m"/>
          <replicate count="2" euler="0 0 0.5"><site pos="0.1 0 0"/></replicate>
          <site name="e" size="0.01"/></body></body></body></worldbody>
  <contact><exclude body1="base" body2="foot"/><pair geom1="g" geom2="f" condim="4"/></contact>
  <equality><joint joint1="j" joint2="k" polycoef="0 1 0 0 0"/></equality>
  <tendon><spatial name="w" limited="true" range="0 1" damping="1"><site site="s"/>
      <site site="e"/></spatial><fixed name="x"><joint joint="j" coef="1"/></fixed></tendon>
  <actuator><position name="p" joint="j" ctrlrange="-1 1" forcerange="-5 5"/>
    <motor name="n" joint="k" gear="10"/><general tendon="w" gainprm="1" biasprm="0 -1 0"
      biastype="affine" dyntype="filter" dynprm="0.1"/></actuator>
  <sensor><jointpos joint="j" noise="0.1"/><accelerometer site="s"/><force site="e"/>
    <framepos objtype="body" objname="foot"/></sensor>
  <keyframe><key name="home" qpos="0 0 1 1 0 0 0 0.1 0.2" ctrl="0.1 0 0"/></keyframe>
</mujoco>
"""
URDF = b"""<?xml version="1.0"?>
<robot name="r">
  <material name="red"><color rgba="1 0 0 1"/></material>
  <link name="base"><inertial><origin xyz="0 0 0" rpy="0 0 0"/><mass value="2"/>
      <inertia ixx="0.1" ixy="0" ixz="0" iyy="0.1" iyz="0" izz="0.1"/></inertial>
    <visual><geometry><mesh filename="m.obj" scale="1 1 1"/></geometry>
      <material name="red"/></visual>
    <collision><origin xyz="0 0 0.1"/><geometry><box size="0.1 0.2 0.3"/></geometry></collision>
  </link>
  <link name="arm"><inertial><mass value="1"/><inertia ixx="0.1" ixy="0.01" ixz="0" iyy="0.1"
      iyz="0" izz="0.1"/></inertial>
    <collision><geometry><cylinder radius="0.1" length="0.3"/></geometry></collision></link>
  <link name="hand"><collision><geometry><mesh filename="package://r/m.obj"/></geometry></collision>
    <collision><geometry><sphere radius="0.1"/></geometry></collision></link>
  <link name="tip"/>
  <joint name="a" type="revolute"><parent link="base"/><child link="arm"/>
    <origin xyz="0 0 0.3" rpy="0 1.57 0"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="1" effort="10" velocity="5"/>
    <dynamics damping="0.1" friction="0.2"/></joint>
  <joint name="b" type="prismatic"><parent link="arm"/><child link="hand"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="0.5" effort="10" velocity="5"/>
    <mimic joint="a" multiplier="0.5" offset="0.1"/></joint>
  <joint name="c" type="fixed"><parent link="hand"/><child link="tip"/>
    <origin xyz="0.1 0 0"/></joint>
  <gazebo reference="arm"><mu1>0.2</mu1></gazebo>
</robot>
"""
BOX = trimesh.creation.box((0.1, 0.2, 0.3))
OBJ = trimesh.exchange.obj.export_obj(BOX).encode()
ATTRIBUTES = re.findall(
    r"[A-Za-z_]\w*(?= )|[A-Za-z_]\w*$", mujoco.mj_printSchema(False, False), re.MULTILINE
)
VALUES = [v.encode() for v in mutate.NUMBERS] + [b"nan 1 2", b"1 1e300 1", b"-1 -1 -1", b"0 0 0"]
VALUES += [b"20000", b"100000 100000", b"2000000000", b"true", b"auto", b"base", b"", b"\xc3\xbc"]


SCALES = (b"1 1 1", b"1 1 1", b"1e-9 1 1", b"1e9 1 1", b"-1 1 1", b"1e-30 1e-30 1")


class Robot:
    """A robot that is accepted has finite numbers, and moves."""

    name: str

    def __init__(self, folder):
        self.folder = folder
        (folder / "m.obj").write_bytes(OBJ)

    def __call__(self, files):
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        try:
            self.check(load_robot(self.folder / self.name))
        finally:
            (self.folder / "m.obj").write_bytes(OBJ)

    def check(self, robot):
        model = robot.compile()
        for field in dir(model):
            values = None if field.startswith("_") else getattr(model, field)
            if isinstance(values, np.ndarray) and values.dtype.kind == "f":
                assert (np.abs(values) <= 1e30).all(), f"{field} is {values}"
        for field in (
            "body_mass",
            "dof_damping",
            "dof_armature",
            "dof_frictionloss",
            "geom_friction",
        ):
            assert (getattr(model, field) >= 0).all(), f"{field} is negative"
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        assert np.isfinite(data.xpos).all(), "positions are not finite"


class Mjcf(Robot):
    name = "r.xml"

    def case(self, rng):
        if rng.randrange(2):
            return {self.name: mutate.of_text(rng, MJCF)}
        return {self.name: with_attributes(rng, MJCF, ATTRIBUTES)}


class Urdf(Robot):
    name = "r.urdf"

    def case(self, rng):
        if rng.randrange(2):
            return {self.name: mutate.of_text(rng, URDF)}
        known = [w.decode() for w in re.findall(rb"(\w+)=", URDF)]
        return {self.name: with_attributes(rng, URDF, known)}


class Mesh(Robot):
    """Meshes of every format, each behind a URDF and an MJCF."""

    name = "r.urdf"

    def __init__(self, folder):
        super().__init__(folder)
        self.meshes = {}
        for kind in ("stl", "stl_ascii", "obj", "glb", "ply"):
            data = BOX.export(file_type=kind)
            self.meshes[kind.partition("_")[0], kind] = (
                data if isinstance(data, bytes) else data.encode()
            )
        self.meshes["dae", "dae"] = trimesh.exchange.dae.export_collada(BOX)

    def case(self, rng):
        (suffix, _), data = rng.choice(sorted(self.meshes.items()))
        change = rng.choice((mutate.of_bytes, mutate.of_text))
        tag = rng.choice((b"collision", b"visual"))
        scale = rng.choice(
            (b"1 1 1", b"1 1 1", b"1e-9 1 1", b"1e9 1 1", b"-1 1 1", b"1e-30 1e-30 1")
        )
        robot = b'<robot name="r"><link name="a"><%s><geometry><mesh filename="x.%s" scale="%s"/>'
        robot += b"</geometry></%s></link></robot>"
        robot %= (tag, suffix.encode(), scale, tag)
        return {self.name: robot, f"x.{suffix}": change(rng, data)}


def with_attributes(rng, data, known):
    """One to three elements with an attribute more, or with another value in one that they have."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        key, value = rng.choice(known).encode(), rng.choice(VALUES)
        tags = list(re.finditer(rb"<\w+", data))
        at = rng.choice(tags)
        end = data.index(b">", at.end())
        inside = data[at.end() : end]
        has = list(re.finditer(rb'(\w+)="([^"]*)"', inside))
        if has and rng.randrange(2):
            old = rng.choice(has)
            inside = inside[: old.start(2)] + value + inside[old.end(2) :]
        elif key + b"=" not in inside:
            inside = b' %s="%s"' % (key, value) + inside
        data = data[: at.end()] + inside + data[end:]
    return data


class Look(Robot):
    """`phalanx robot FILE`: its facts, two seconds on the ground, the file that it writes."""

    name = "r.xml"

    def __init__(self, folder):
        super().__init__(folder)
        self.kinds = (Mjcf(folder), Urdf(folder))

    def case(self, rng):
        return rng.choice(self.kinds).case(rng)

    def __call__(self, files):
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        file = read_robot(str(self.folder / next(iter(files))))
        held = HeldRobot(file, default_pose(file))
        facts, dropped = facts_of(file, held.pose.qpos), drop(held)
        text = json.dumps({**dataclasses.asdict(facts), "drop": dataclasses.asdict(dropped)})
        assert not {"NaN", "Infinity"} & set(re.findall(r"[A-Za-z]+", text)), "not finite"
        show(Console(file=io.StringIO(), width=120), facts, dropped)
