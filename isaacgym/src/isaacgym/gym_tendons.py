"""Gym's calls on fixed tendons of assets and actors; they count in their asset, in file order."""

from collections.abc import Sequence

from isaacgym.asset import Asset
from isaacgym.handles import actor_of, checked, checked_index, index_of, note_change
from isaacgym.property_structs import TendonProperties
from isaacgym.structs import single
from isaacgym.tendons import Tendon, tendon_rows, tendon_structs
from isaacgym.values import FLT_MAX
from isaacgym.world import Env
from phalanx.errors import PhalanxError


class TendonCalls:
    """Properties may differ between environments and change while the simulation runs;
    coefficients of joints belong to the asset."""

    def get_asset_tendon_count(self, asset: Asset) -> int:
        """Number of fixed tendons in the file."""
        return len(checked(asset, Asset, "get_asset_tendon_count").tendons)

    def get_asset_tendon_name(self, asset: Asset, tendon: int) -> str:
        """Name of a tendon."""
        return _tendon(checked(asset, Asset, "get_asset_tendon_name"), tendon).name

    def find_asset_tendon_index(self, asset: Asset, name: str) -> int:
        """Index of the tendon with this name; -1 if there is none."""
        tendons = checked(asset, Asset, "find_asset_tendon_index").tendons
        return index_of([t.name for t in tendons], name)

    def get_asset_tendon_properties(self, asset: Asset) -> list[TendonProperties]:
        """Copies of the properties, one for each tendon."""
        asset = checked(asset, Asset, "get_asset_tendon_properties")
        return tendon_structs(asset.tendon_props, asset.tendons)

    def set_asset_tendon_properties(
        self, asset: Asset, properties: Sequence[TendonProperties]
    ) -> bool:
        """Set the properties that actors created from now on start with."""
        call = "set_asset_tendon_properties"
        asset = checked(asset, Asset, call)
        asset.tendon_props = tendon_rows(properties, asset.tendon_props, call)
        return True

    def get_asset_fixed_tendon_joint_coefficients(self, asset: Asset, tendon: int) -> list[float]:
        """The factor of each joint in the tendon's length [m/rad or 1]."""
        call = "get_asset_fixed_tendon_joint_coefficients"
        return list(_tendon(checked(asset, Asset, call), tendon).coefficients)

    def set_asset_fixed_tendon_joint_coefficients(
        self, asset: Asset, tendon: int, coefficients: Sequence[float]
    ) -> bool:
        """Set the factor of each joint. Raises PhalanxError once the asset has an actor."""
        call = "set_asset_fixed_tendon_joint_coefficients"
        asset = checked(asset, Asset, call)
        held = _tendon(asset, tendon)
        values = [single(c) for c in coefficients]
        if len(values) != len(held.joints):
            raise PhalanxError(
                f"gym.{call} was given {len(values)} coefficients for the {len(held.joints)} joints"
                f" of tendon {held.name!r}"
            )
        if asset.placed:
            raise PhalanxError(
                f"gym.{call} was called after gym.create_actor for {asset.name}; set coefficients"
                " first"
            )
        held.coefficients = values
        return True

    def get_asset_fixed_tendon_joint_name(self, asset: Asset, tendon: int, joint: int) -> str:
        """Name of a joint of a tendon."""
        call = "get_asset_fixed_tendon_joint_name"
        joints = _tendon(checked(asset, Asset, call), tendon).joints
        return joints[checked_index(joint, len(joints), "joint", call)]

    def get_actor_tendon_count(self, env: Env, handle: int) -> int:
        """Number of fixed tendons of the actor."""
        return len(actor_of(env, handle, "get_actor_tendon_count").asset.tendons)

    def get_actor_tendon_name(self, env: Env, handle: int, tendon: int) -> str:
        """Name of a tendon."""
        return _tendon(actor_of(env, handle, "get_actor_tendon_name").asset, tendon).name

    def find_actor_tendon_index(self, env: Env, handle: int, name: str) -> int:
        """Index of the actor's tendon with this name; -1 if there is none."""
        return self.find_asset_tendon_index(
            actor_of(env, handle, "find_actor_tendon_index").asset, name
        )

    def get_actor_tendon_properties(self, env: Env, handle: int) -> list[TendonProperties]:
        """Copies of the properties, one for each tendon."""
        actor = actor_of(env, handle, "get_actor_tendon_properties")
        return tendon_structs(actor.tendon_props, actor.asset.tendons)

    def set_actor_tendon_properties(
        self, env: Env, handle: int, properties: Sequence[TendonProperties]
    ) -> bool:
        """Set stiffness, damping, rest length and limits, from the next `simulate` on."""
        call = "set_actor_tendon_properties"
        actor = actor_of(env, handle, call)
        actor.tendon_props = tendon_rows(properties, actor.tendon_props, call)
        note_change(env)
        return True

    def get_actor_tendon_offset(self, env: Env, handle: int, tendon: int) -> float:
        """Length that is added to a tendon [m or rad]; FLT_MAX if there is no such tendon."""
        actor = actor_of(env, handle, "get_actor_tendon_offset")
        if not 0 <= int(tendon) < len(actor.tendon_props):
            return FLT_MAX
        return float(actor.tendon_props["offset"][int(tendon)])

    def set_actor_tendon_offset(self, env: Env, handle: int, tendon: int, offset: float) -> bool:
        """Add a length to a tendon [m or rad], from the next `simulate` on."""
        call = "set_actor_tendon_offset"
        actor = actor_of(env, handle, call)
        rows = actor.tendon_props.copy()
        rows["offset"][checked_index(tendon, len(rows), "tendon", call)] = single(offset)
        actor.tendon_props = rows
        note_change(env)
        return True

    def get_actor_fixed_tendon_joint_coefficients(
        self, env: Env, handle: int, tendon: int
    ) -> list[float]:
        """The factor of each joint in the tendon's length [m/rad or 1]."""
        call = "get_actor_fixed_tendon_joint_coefficients"
        return list(_tendon(actor_of(env, handle, call).asset, tendon).coefficients)

    def get_actor_fixed_tendon_joint_name(
        self, env: Env, handle: int, tendon: int, joint: int
    ) -> str:
        """Name of a joint of a tendon."""
        asset = actor_of(env, handle, "get_actor_fixed_tendon_joint_name").asset
        return self.get_asset_fixed_tendon_joint_name(asset, tendon, joint)

    def find_actor_fixed_tendon_joint_index(
        self, env: Env, handle: int, tendon: int, name: str
    ) -> int:
        """Place of the joint with this name in a tendon; -1 if it has none."""
        asset = actor_of(env, handle, "find_actor_fixed_tendon_joint_index").asset
        return index_of(_tendon(asset, tendon).joints, name)


def _tendon(asset: Asset, index: int) -> Tendon:
    return asset.tendons[checked_index(index, len(asset.tendons), "tendon", "get_asset_tendon")]
