"""Gym's calls on force sensors: on the bodies of an asset, or of an actor of one environment."""

import logging
from dataclasses import dataclass

import numpy as np

from isaacgym.asset import Asset
from isaacgym.enums import INVALID_HANDLE
from isaacgym.geometry import Transform, Vec3
from isaacgym.handles import Sim, actor_of, checked, checked_index, env_physics
from isaacgym.property_structs import ForceSensorProperties
from isaacgym.values import SpatialForce
from isaacgym.world import Env
from phalanx.errors import PhalanxError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ForceSensor:
    """A force sensor of an actor. index: among those of its environment."""

    env: Env
    index: int

    def get_forces(self) -> SpatialForce:
        """Force [N] and torque [N m] in the last substep of the last `simulate`."""
        row = env_physics(self.env, "get_actor_force_sensor").rows("force_sensor", self.env.row)
        force, torque = np.split(row[self.index], 2)
        return SpatialForce(Vec3(*force), Vec3(*torque))

    def get_global_index(self) -> int:
        """Its row in the force sensor tensor."""
        return self.env.first["sensors"] + self.index


class SensorCalls:
    """Sensors of an asset are in all its actors. They read the net force on a body, which is zero
    at rest, or the part that their properties leave."""

    def create_asset_force_sensor(
        self,
        asset: Asset,
        body_idx: int,
        local_pose: Transform,
        props: ForceSensorProperties | None = None,
    ) -> int:
        """A sensor on a body, at a pose in its frame; returns its index in the asset.

        Body -1, which searches return for a name that does not exist, gets no sensor: returns -1,
        with a warning. Raises PhalanxError if the asset already has an actor.
        """
        call = "create_asset_force_sensor"
        asset = checked(asset, Asset, call)
        if int(body_idx) == INVALID_HANDLE:
            if not asset.warned_of_sensor:
                asset.warned_of_sensor = True
                log.warning(
                    "gym.%s was given body -1, so %s gets no sensor; its bodies are %s",
                    call, asset.name, ", ".join(asset.body_names),
                )  # fmt: skip
            return INVALID_HANDLE
        if asset.placed:
            raise PhalanxError(
                f"gym.{call} was called after gym.create_actor for {asset.name}; create sensors"
                " first"
            )
        checked_index(body_idx, asset.num_bodies, "body", call)
        pose = Transform() * (local_pose or Transform())
        asset.sensors.append((int(body_idx), pose, props or ForceSensorProperties()))
        return len(asset.sensors) - 1

    def create_force_sensor(
        self,
        env: Env,
        body: int,
        local_pose: Transform | None = None,
        props: ForceSensorProperties | None = None,
    ) -> int:
        """A sensor on the body with this handle, in one environment, as Preview 2 had it; returns
        its index in the environment. Raises PhalanxError once the next environment is created."""
        call = "create_force_sensor"
        env = checked(env, Env, call)
        sim = checked(env.sim, Sim, call)
        sim.check_open(call)
        sim.check_last(env, call, "sensors")
        body = checked_index(body, env.num_bodies, "body", call)
        actor = next(a for a in reversed(env.actors) if a.first_body <= body)
        pose = Transform() * (local_pose or Transform())
        own = (body - actor.first_body, pose, props or ForceSensorProperties())
        actor.sensors = [*actor.sensors, own]
        env.num_sensors += 1
        sim.num_sensors += 1
        return sum(len(a.sensors) for a in env.actors[: actor.handle + 1]) - 1

    def get_actor_force_sensor_count(self, env: Env, handle: int) -> int:
        """Number of force sensors of the actor."""
        return len(actor_of(env, handle, "get_actor_force_sensor_count").sensors)

    def get_actor_force_sensor(self, env: Env, handle: int, index: int) -> ForceSensor:
        """A force sensor of the actor. It reads zero until the first `simulate`."""
        call = "get_actor_force_sensor"
        actor = actor_of(env, handle, call)
        index = checked_index(index, len(actor.sensors), "force sensor", call)
        sim = checked(env.sim, Sim, call)
        sim.reads_sensors = True
        if sim.physics is not None:
            sim.physics.acquire("force_sensor")
        return ForceSensor(env, sum(len(a.sensors) for a in env.actors[:handle]) + index)

    def get_sim_force_sensor_count(self, sim: Sim) -> int:
        """Number of force sensors in all environments so far."""
        return checked(sim, Sim, "get_sim_force_sensor_count").num_sensors
