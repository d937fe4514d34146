"""Images in robots: textures and height fields, .png and MuJoCo's binary format; and what the
drop-in makes of robots' files and images."""

import struct
import zlib

import numpy as np

from fuzz import mutate, robots
from isaac import GYM, World, options, pose
from isaacgym import gymapi
from phalanx.errors import PhalanxError


def png(side=8):
    """A small image with three colours."""
    rows = b"".join(bytes([0, *((at * k) % 251 for k in range(3 * side))]) for at in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class Picture(robots.Robot):
    name = "r.xml"
    TEXT = """<mujoco><asset><texture name="t" type="%s" file="x.%s"/><material name="a"
      texture="t"/>%s</asset><worldbody><body><freejoint/><geom size="1" material="a"/></body>
      %s</worldbody></mujoco>"""

    def __init__(self, folder):
        super().__init__(folder)
        (folder / "good.png").write_bytes(png())
        field = struct.pack("<ii", 3, 3) + np.linspace(0, 1, 9, dtype="<f4").tobytes()
        self.good = {"png": png(), "bin": field}

    def case(self, rng):
        kind = rng.choice(("png", "png", "bin"))
        hfield = geom = ""
        if kind == "bin" or rng.randrange(2):
            hfield = f'<hfield name="h" file="x.{kind}" size="1 1 1 1"/>'
            geom = '<geom type="hfield" hfield="h"/>'
        where = ("2d", "png") if kind == "png" else ("2d", "none")
        text = self.TEXT % (*where, hfield, geom)
        if kind == "bin":
            text = text.replace("x.none", "good.png")
        return {self.name: text.encode(), f"x.{kind}": mutate.of_bytes(rng, self.good[kind])}


class Assets(robots.Robot):
    """A robot loaded by the drop-in, with its options; what is accepted moves."""

    FLAGS = ("fix_base_link", "collapse_fixed_joints", "disable_gravity", "flip_visual_attachments",
             "replace_cylinder_with_capsule", "override_com", "override_inertia",
             "vhacd_enabled", "use_mesh_materials")  # fmt: skip

    def __init__(self, folder):
        super().__init__(folder)
        self.kinds = {"r.xml": robots.Mjcf(folder), "r.urdf": robots.Urdf(folder)}

    def case(self, rng):
        files = rng.choice(sorted(self.kinds.items()))[1].case(rng)
        given = {flag: True for flag in self.FLAGS if rng.randrange(6) == 0 and "vhacd" not in flag}
        for name in ("density", "armature", "thickness", "linear_damping", "max_linear_velocity"):
            if rng.randrange(12) == 0:
                given[name] = mutate.values(rng, 0.1)
        if rng.randrange(4) == 0:
            given["default_dof_drive_mode"] = rng.choice((0, 1, 2, 3, 4, -1, "x"))
        return files, given

    def __call__(self, argument):
        files, given = argument
        for name, data in files.items():
            (self.folder / name).write_bytes(data)
        try:
            self.load(next(iter(files)), given)
        except (TypeError, NotImplementedError, OverflowError) as error:
            if given or str(error).startswith("gym."):  # a struct refuses a value
                raise PhalanxError(str(error)) from error
            raise

    def load(self, name, given):
        world = World()
        asset = GYM.load_asset(world.sim, str(self.folder), name, options(**given))
        env = world.env(2.0)
        actor = GYM.create_actor(env, asset, pose(z=1.0), "robot", 0, 0)
        properties = GYM.get_actor_dof_properties(env, actor)
        assert np.isfinite(properties["stiffness"]).all(), "a stiffness is not finite"
        assert (properties["lower"] <= properties["upper"]).all(), "limits in wrong order"
        GYM.prepare_sim(world.sim)
        states = GYM.get_actor_dof_states(env, actor, gymapi.STATE_ALL)
        assert np.isfinite(states["pos"]).all(), "a joint is nowhere"
        GYM.destroy_sim(world.sim)
