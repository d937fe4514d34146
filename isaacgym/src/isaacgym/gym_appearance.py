"""Gym's calls on colours, textures, segmentation ids and lights; bodies count in their actor."""

import copy
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from isaacgym.enums import INVALID_HANDLE
from isaacgym.geometry import Vec3
from isaacgym.handles import Sim, actor_of, checked, checked_index, note_look
from isaacgym.properties import bits
from isaacgym.world import Actor, Env
from phalanx.errors import PhalanxError

log = logging.getLogger(__name__)


class AppearanceCalls:
    """What bodies look like. The viewer shows colours, and cameras textures too."""

    def set_rigid_body_color(
        self, env: Env, handle: int, body: int, mesh_type: int, color: Vec3
    ) -> None:
        """Set the colour of a body: red, green, blue, 0 to 1."""
        actor, at = _body(env, handle, body, "set_rigid_body_color")
        actor.colors[at] = Vec3(*color)
        note_look(env)

    def get_rigid_body_color(self, env: Env, handle: int, body: int, mesh_type: int) -> Vec3:
        """The colour that was set, or white."""
        actor, at = _body(env, handle, body, "get_rigid_body_color")
        return copy.copy(actor.colors.get(at, Vec3(1.0, 1.0, 1.0)))

    def create_texture_from_file(self, sim: Sim, filename: str) -> int:
        """A handle of the image in a file; -1, with a warning, if there is no such file."""
        sim = checked(sim, Sim, "create_texture_from_file")
        if not os.path.isfile(filename):  # False for names that cannot be
            log.warning("gym.create_texture_from_file: no file %s; returning -1", filename)
            return INVALID_HANDLE
        return sim.add_texture(Path(filename))

    def create_texture_from_buffer(self, sim: Sim, width: int, height: int, buffer: Any) -> int:
        """A handle of an image given as bytes, (height, width, 4), red green blue opacity."""
        call = "create_texture_from_buffer"
        try:
            pixels = np.asarray(buffer).astype(np.uint8).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            raise PhalanxError(f"gym.{call} takes a buffer of bytes") from None
        if width < 1 or height < 1 or pixels.size != 4 * width * height:
            raise PhalanxError(
                f"gym.{call} was given {pixels.size} bytes for {width} times {height} pixels of"
                " 4 bytes each"
            )
        return checked(sim, Sim, call).add_texture(pixels.reshape(height, width, 4))

    def free_texture(self, sim: Sim, handle: int) -> None:
        """Forget a texture; bodies that have it keep it."""
        textures = checked(sim, Sim, "free_texture").textures
        textures[checked_index(handle, len(textures), "texture", "free_texture")] = None

    def set_rigid_body_texture(
        self, env: Env, handle: int, body: int, mesh_type: int, texture: int
    ) -> None:
        """Draw a body with a texture, which replaces its colour. -1, which creators return on
        failure, changes nothing."""
        call = "set_rigid_body_texture"
        actor, at = _body(env, handle, body, call)
        if int(texture) != INVALID_HANDLE:
            count = len(checked(env.sim, Sim, call).textures)
            actor.textures[at] = checked_index(texture, count, "texture", call)
            note_look(env)

    def get_rigid_body_texture(self, env: Env, handle: int, body: int, mesh_type: int) -> int:
        """The texture that was set, or -1."""
        actor, at = _body(env, handle, body, "get_rigid_body_texture")
        return actor.textures.get(at, INVALID_HANDLE)

    def reset_actor_materials(self, env: Env, handle: int, mesh_type: int) -> None:
        """Draw the actor with the colours of its file again."""
        actor = actor_of(env, handle, "reset_actor_materials")
        actor.colors.clear()
        actor.textures.clear()
        note_look(env)

    def set_rigid_body_segmentation_id(self, env: Env, handle: int, body: int, value: int) -> None:
        """Set the number of a body's pixels in segmentation images."""
        call = "set_rigid_body_segmentation_id"
        actor, at = _body(env, handle, body, call)
        bits(value, f"gym.{call}'s value")
        actor.segmentation[at] = int(value)
        note_look(env)

    def get_rigid_body_segmentation_id(self, env: Env, handle: int, body: int) -> int:
        """The number that was set for the body, or else for its actor by `create_actor`."""
        actor, at = _body(env, handle, body, "get_rigid_body_segmentation_id")
        return actor.segmentation.get(at, actor.segmentation_id)

    def set_light_parameters(
        self, sim: Sim, index: int, intensity: Vec3, ambient: Vec3, direction: Vec3
    ) -> None:
        """Accepted without effect: the viewer has its own light."""
        checked(sim, Sim, "set_light_parameters")


def _body(env: Env, handle: int, body: int, call: str) -> tuple[Actor, int]:
    """An actor, and the number in it of one of its bodies."""
    actor = actor_of(env, handle, call)
    return actor, checked_index(body, actor.asset.num_bodies, "body", call)
