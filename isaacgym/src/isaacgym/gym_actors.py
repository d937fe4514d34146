"""Gym's calls on environments, actors, bodies and shapes: creation, queries, properties."""

import copy
from typing import Any

import numpy as np

from isaacgym import attractors
from isaacgym.asset import NO_FILTER, Asset
from isaacgym.enums import (
    RIGID_BODY_DISABLE_GRAVITY,
    RIGID_BODY_ENABLE_GYROSCOPIC_FORCES,
    IndexDomain,
)
from isaacgym.geometry import Transform, Vec3
from isaacgym.gym_assets import checked_shapes
from isaacgym.handles import (
    Sim,
    actor_of,
    checked,
    checked_index,
    in_domain,
    index_of,
    note_change,
)
from isaacgym.properties import bits, body_rows, body_structs, shape_structs
from isaacgym.property_structs import (
    AttractorProperties,
    RigidBodyProperties,
    RigidShapeProperties,
)
from isaacgym.structs import single
from isaacgym.values import IndexRange
from isaacgym.world import NO_GROUP, Env
from phalanx.errors import PhalanxError

BODY_FLAGS = RIGID_BODY_DISABLE_GRAVITY | RIGID_BODY_ENABLE_GYROSCOPIC_FORCES
"""Those that bodies have or may have: gyroscopic forces always act."""


class ActorCalls:
    """Handles of actors and bodies count within the environment."""

    # Environments -----------------------------------------------------------------------------

    def create_env(self, sim: Sim, lower: Vec3, upper: Vec3, num_per_row: int) -> Env:
        """Create the next environment of a grid with cells of size `upper - lower` [m]."""
        return checked(sim, Sim, "create_env").create_env(lower, upper, int(num_per_row))

    def destroy_env(self, env: Env) -> None:
        """Remove the environment that was created last. Once the simulation is prepared, nothing
        happens: all of it is freed by `destroy_sim`."""
        env = checked(env, Env, "destroy_env")
        if not env.sim.frozen:
            env.sim.destroy_env(env)

    def get_env(self, sim: Sim, index: int) -> Env:
        """The environment with this number."""
        envs = checked(sim, Sim, "get_env").envs
        return envs[checked_index(index, len(envs), "environment", "get_env")]

    def get_env_count(self, sim: Sim) -> int:
        """Number of environments."""
        return len(checked(sim, Sim, "get_env_count").envs)

    def get_env_origin(self, env: Env) -> Vec3:
        """Origin of the environment's frame in the world [m]."""
        return Vec3(*checked(env, Env, "get_env_origin").origin)

    def get_env_rigid_body_count(self, env: Env) -> int:
        """Number of bodies of all actors so far."""
        return checked(env, Env, "get_env_rigid_body_count").num_bodies

    def get_env_dof_count(self, env: Env) -> int:
        """Number of degrees of freedom of all actors so far."""
        return checked(env, Env, "get_env_dof_count").num_dofs

    def get_sim_actor_count(self, sim: Sim) -> int:
        """Number of actors in all environments so far."""
        return checked(sim, Sim, "get_sim_actor_count").num_actors

    def get_sim_rigid_body_count(self, sim: Sim) -> int:
        """Number of bodies in all environments so far."""
        return checked(sim, Sim, "get_sim_rigid_body_count").num_bodies

    def get_sim_dof_count(self, sim: Sim) -> int:
        """Number of degrees of freedom in all environments so far."""
        return checked(sim, Sim, "get_sim_dof_count").num_dofs

    def begin_aggregate(
        self, env: Env, max_bodies: int, max_shapes: int, self_collisions: bool
    ) -> bool:
        """Nothing to do: aggregates are a hint to PhysX's broad phase."""
        checked(env, Env, "begin_aggregate")
        return True

    def end_aggregate(self, env: Env) -> bool:
        """Nothing to do; see `begin_aggregate`."""
        checked(env, Env, "end_aggregate")
        return True

    def create_aggregate(self, env: Env, actors: Any) -> bool:
        """Nothing to do; see `begin_aggregate`."""
        checked(env, Env, "create_aggregate")
        return True

    # Actors -----------------------------------------------------------------------------------

    def create_actor(
        self,
        env: Env,
        asset: Asset,
        pose: Transform,
        name: str | None = None,
        group: int = NO_GROUP,
        filter: int = NO_FILTER,
        segmentationId: int = 0,
    ) -> int:
        """Place an asset at a pose in the environment's frame; returns its handle there.

        group: actors of different groups never touch; -1 belongs to all groups. filter: shapes with
        a bit in common never touch; -1 keeps the masks of an MJCF file."""
        env = checked(env, Env, "create_actor")
        asset = checked(asset, Asset, "create_actor")
        pose = checked(pose, Transform, "create_actor")
        bits(segmentationId, "gym.create_actor's segmentationId")
        sim = checked(env.sim, Sim, "create_actor")
        actor = sim.create_actor(env, asset, pose, name or "", int(group), int(filter))
        actor.segmentation_id = int(segmentationId)
        return actor.handle

    def get_actor_count(self, env: Env) -> int:
        """Number of actors in the environment."""
        return len(checked(env, Env, "get_actor_count").actors)

    def get_actor_handle(self, env: Env, index: int) -> int:
        """Handle of an actor, which is its index in the environment."""
        return actor_of(env, index, "get_actor_handle").handle

    def find_actor_handle(self, env: Env, name: str) -> int:
        """Handle of the actor with this name; -1 if there is none."""
        return index_of([a.name for a in checked(env, Env, "find_actor_handle").actors], name)

    def get_actor_index(self, env: Env, handle: int, domain: IndexDomain) -> int:
        """Index of an actor in a domain; in DOMAIN_SIM, its row in the root states."""
        actor_of(env, handle, "get_actor_index")
        if domain == IndexDomain.DOMAIN_ACTOR:
            return 0
        return int(handle) + (env.first["actors"] if domain == IndexDomain.DOMAIN_SIM else 0)

    def find_actor_index(self, env: Env, name: str, domain: IndexDomain) -> int:
        """Index in a domain of the actor with this name; -1 if there is none."""
        handle = self.find_actor_handle(env, name)
        return handle if handle < 0 else self.get_actor_index(env, handle, domain)

    def get_actor_name(self, env: Env, handle: int) -> str:
        """The name given to `create_actor`."""
        return actor_of(env, handle, "get_actor_name").name

    def get_actor_asset(self, env: Env, handle: int) -> Asset:
        """The asset of the actor."""
        return actor_of(env, handle, "get_actor_asset").asset

    def get_actor_scale(self, env: Env, handle: int) -> float:
        """Factor of all lengths."""
        return actor_of(env, handle, "get_actor_scale").scale

    def set_actor_scale(self, env: Env, handle: int, scale: float) -> bool:
        """Multiply lengths by `scale` and masses by its cube."""
        actor = actor_of(env, handle, "set_actor_scale")
        scale = single(scale)
        if not 0 < scale < 1e6:
            raise PhalanxError(f"gym.set_actor_scale was given {scale}; it must be positive")
        actor.scale = scale
        note_change(env)
        return True

    # Bodies -----------------------------------------------------------------------------------

    def get_actor_rigid_body_count(self, env: Env, handle: int) -> int:
        """Number of bodies of the actor."""
        return actor_of(env, handle, "get_actor_rigid_body_count").asset.num_bodies

    def get_actor_rigid_body_names(self, env: Env, handle: int) -> list[str]:
        """Names of the bodies in order; the first is the root."""
        return list(actor_of(env, handle, "get_actor_rigid_body_names").asset.body_names)

    def get_actor_rigid_body_dict(self, env: Env, handle: int) -> dict[str, int]:
        """Index of each body in the actor, by name."""
        names = self.get_actor_rigid_body_names(env, handle)
        return {name: i for i, name in enumerate(names)}

    def get_actor_rigid_body_handle(self, env: Env, handle: int, index: int) -> int:
        """Handle of a body of the actor in the environment."""
        return self.get_actor_rigid_body_index(env, handle, index, IndexDomain.DOMAIN_ENV)

    def get_actor_rigid_body_index(
        self, env: Env, handle: int, index: int, domain: IndexDomain
    ) -> int:
        """Index of a body of the actor in a domain; in DOMAIN_SIM, its row in the body states."""
        actor = actor_of(env, handle, "get_actor_rigid_body_index")
        checked_index(index, actor.asset.num_bodies, "body", "get_actor_rigid_body_index")
        return in_domain(env, int(index), actor.first_body, "bodies", domain)

    def find_actor_rigid_body_handle(self, env: Env, handle: int, name: str) -> int:
        """Handle of the actor's body with this name; -1 if there is none."""
        return self.find_actor_rigid_body_index(env, handle, name, IndexDomain.DOMAIN_ENV)

    def find_actor_rigid_body_index(
        self, env: Env, handle: int, name: str, domain: IndexDomain
    ) -> int:
        """Index in a domain of the actor's body with this name; -1 if there is none."""
        actor = actor_of(env, handle, "find_actor_rigid_body_index")
        index = index_of(actor.asset.body_names, name)
        return index if index < 0 else self.get_actor_rigid_body_index(env, handle, index, domain)

    def get_actor_root_rigid_body_handle(self, env: Env, handle: int) -> int:
        """Handle of the root in the environment."""
        return actor_of(env, handle, "get_actor_root_rigid_body_handle").first_body

    def get_rigid_handle(self, env: Env, actor_name: str, body_name: str) -> int:
        """Handle of a body by the names of actor and body; -1 if there is none."""
        handle = self.find_actor_handle(env, actor_name)
        return handle if handle < 0 else self.find_actor_rigid_body_handle(env, handle, body_name)

    def get_rigid_name(self, env: Env, body: int) -> str:
        """Name of the body with this handle in the environment."""
        names = [n for a in checked(env, Env, "get_rigid_name").actors for n in a.asset.body_names]
        return names[checked_index(body, len(names), "body", "get_rigid_name")]

    def get_actor_rigid_body_properties(self, env: Env, handle: int) -> list[RigidBodyProperties]:
        """Copies of the properties, one for each body."""
        actor = actor_of(env, handle, "get_actor_rigid_body_properties")
        if actor.bodies is not None:
            return body_structs(actor.bodies)
        return [copy.copy(p) for p in actor.asset.body_structs]

    def set_actor_rigid_body_properties(
        self,
        env: Env,
        handle: int,
        properties: list[RigidBodyProperties],
        recomputeInertia: bool = False,
    ) -> bool:
        """Set masses, centres of mass, inertias and gravity flags, from the next `simulate` on.
        recomputeInertia: scale inertias with the masses and ignore the given ones."""
        call = "set_actor_rigid_body_properties"
        actor = actor_of(env, handle, call)
        old = actor.asset.bodies if actor.bodies is None else actor.bodies
        if len(properties) != len(old):
            raise PhalanxError(
                f"gym.{call} was given {len(properties)} properties for {len(old)} bodies"
            )
        new = body_rows(properties)
        if others := [int(flags) for flags in new["flags"] if flags & ~BODY_FLAGS]:
            raise PhalanxError(
                f"gym.{call} was given flags {others[0]}; of RIGID_BODY_* only DISABLE_GRAVITY and"
                " ENABLE_GYROSCOPIC_FORCES are supported; AssetOptions.fix_base_link holds a body"
            )
        massless = (new["mass"] == 0) & (old["mass"] == 0)
        wrong = ~(np.isfinite(new["mass"]) & (new["mass"] > 0) | massless)
        if wrong.any():
            body = int(wrong.argmax())
            raise PhalanxError(
                f"gym.{call} was given a mass of {new['mass'][body]:.4g} kg for the body"
                f" {actor.asset.body_names[body]!r} of the actor {actor.name!r} in environment"
                f" {env.index}; it must be positive, so where a program draws it, raise the lower"
                " end of its range"
            )
        if not (np.isfinite(new["com"]).all() and np.isfinite(new["inertia"]).all()):
            raise PhalanxError(f"gym.{call} was given a com or an inertia that is not finite")
        if not recomputeInertia and (np.einsum("bii->bi", new["inertia"]) < 0).any():
            raise PhalanxError(f"gym.{call} was given a negative moment of inertia")
        if recomputeInertia:
            ratio = new["mass"] / np.where(massless, 1.0, old["mass"])
            new["inertia"] = old["inertia"] * ratio[:, None, None]
        actor.bodies = new
        note_change(env)
        return True

    # Shapes -----------------------------------------------------------------------------------

    def get_actor_rigid_shape_count(self, env: Env, handle: int) -> int:
        """Number of shapes that collide."""
        return len(actor_of(env, handle, "get_actor_rigid_shape_count").shapes)

    def get_actor_rigid_body_shape_indices(self, env: Env, handle: int) -> list[IndexRange]:
        """Range of shapes of each body."""
        asset = actor_of(env, handle, "get_actor_rigid_body_shape_indices").asset
        return [IndexRange(*asset.shape_range(b)) for b in range(asset.num_bodies)]

    def get_actor_rigid_shape_properties(self, env: Env, handle: int) -> list[RigidShapeProperties]:
        """Copies of the properties, one for each shape."""
        actor = actor_of(env, handle, "get_actor_rigid_shape_properties")
        return shape_structs(actor.shapes)

    def set_actor_rigid_shape_properties(
        self, env: Env, handle: int, properties: list[RigidShapeProperties]
    ) -> bool:
        """Set frictions and filters, one struct for each shape, from the next `simulate` on."""
        call = "set_actor_rigid_shape_properties"
        actor = actor_of(env, handle, call)
        actor.shapes = checked_shapes(properties, len(actor.shapes), call)
        note_change(env)
        return True

    # Sensors and attractors -------------------------------------------------------------------

    def enable_actor_dof_force_sensors(self, env: Env, handle: int) -> bool:
        """Nothing to do: the forces are measured for all actors."""
        actor_of(env, handle, "enable_actor_dof_force_sensors")
        return True

    def create_rigid_body_attractor(self, env: Env, properties: AttractorProperties) -> int:
        """Pull a point of a body (AXIS_TRANSLATION) or its frame (AXIS_ALL) to a place in the
        environment by a spring and a damper; returns the attractor's number. With stiffness 0
        it has no effect."""
        call = "create_rigid_body_attractor"
        env = checked(env, Env, call)
        env.sim.check_open(call)
        checked_index(properties.rigid_handle, env.num_bodies, "body", call)
        attractors.check(properties, call)
        env.attractors.append(copy.copy(properties))
        return len(env.attractors) - 1

    def get_attractor_properties(self, env: Env, attractor: int) -> AttractorProperties:
        """Properties that were given to `create_rigid_body_attractor`."""
        held = checked(env, Env, "get_attractor_properties").attractors
        number = checked_index(attractor, len(held), "attractor", "get_attractor_properties")
        return copy.copy(held[number])

    def set_attractor_properties(
        self, env: Env, attractor: int, properties: AttractorProperties
    ) -> bool:
        """Change target, offset, stiffness and damping, from the next `simulate` on. Raises
        PhalanxError if body or axes differ from those it was created with."""
        call = "set_attractor_properties"
        held = self.get_attractor_properties(env, attractor)
        attractors.check(properties, call)
        if (properties.rigid_handle, properties.axes) != (held.rigid_handle, held.axes):
            raise PhalanxError(
                f"gym.{call} cannot change the body or the axes of an attractor; it has body"
                f" {held.rigid_handle} and axes {held.axes}"
            )
        env.attractors[int(attractor)] = copy.copy(properties)
        sim = checked(env.sim, Sim, call)
        if sim.physics is not None and sim.physics.of(env).engine is not None:
            sim.physics.of(env).attractors.update([env.row])
        return True

    def set_attractor_target(self, env: Env, attractor: int, target: Transform) -> bool:
        """Move the target, in the environment's frame, from the next `simulate` on."""
        properties = self.get_attractor_properties(env, attractor)
        properties.target = checked(target, Transform, "set_attractor_target")
        return self.set_attractor_properties(env, attractor, properties)
