"""MuJoCo's trees of bounding volumes, one for the shapes of each body: they are the scene's, and no
constant that mj_setConst derives. A shape that an environment has moved or enlarged would pass
through others."""

import mujoco

TREE_FIELDS = frozenset(("geom_pos", "geom_quat", "geom_size", "geom_aabb"))
"""Model fields that the trees follow from."""


def without_trees(model: mujoco.MjModel) -> None:
    """Have all pairs of shapes of two bodies looked at."""
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
