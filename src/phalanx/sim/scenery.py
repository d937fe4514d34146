"""What only renderers of a scene use: sky, light and the floor's texture."""

import mujoco
import numpy as np


def add_scenery(spec: mujoco.MjSpec) -> None:
    """Add sky, light and floor texture, which only renderers use."""
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1080
    spec.visual.quality.shadowsize = 4096
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.62, 0.74, 0.86],
        rgb2=[0.95, 0.97, 1.0],
        width=256,
        height=256,
    )
    spec.add_texture(
        name="ground",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.80, 0.82, 0.84],
        rgb2=[0.72, 0.74, 0.77],
        width=256,
        height=256,
    )
    textures = [""] * mujoco.mjtTextureRole.mjNTEXROLE
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "ground"
    spec.add_material(
        name="ground",
        textures=textures,
        texrepeat=np.array([1.0, 1.0]),
        texuniform=True,
    )
    spec.worldbody.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.0, 0.0, 10.0],
        dir=[0.35, 0.45, -0.82],
        diffuse=[0.6, 0.6, 0.6],
        castshadow=True,
    )
