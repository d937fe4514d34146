"""Where bodies, geoms and sites are that never move. A step does not write that, so this does, if
model fields put them elsewhere in each environment."""

from collections.abc import Mapping

from torch import Tensor

from phalanx.sim.engines.fused.places import Places, frames
from phalanx.sim.engines.fused.placing import Fields, Make, matrices, sources, turned


class Statics:
    """Those of one structure. `shared`: its model's own fields."""

    def __init__(self, places: Places, shared: Fields) -> None:
        s, on = places.structure, places.on
        m = s.model
        bodies = [b for b in range(1, m.nbody) if s.slot_of_body(b) < 0]
        geoms = [g for g in range(m.ngeom) if s.slot_of_geom(g) < 0]
        sites = [i for i in range(m.nsite) if s.slot_of_body(int(m.site_bodyid[i])) < 0]
        at, body = on.index(bodies), places.of(bodies)
        geom, site = frames(places, "geom", geoms), frames(places, "site", sites)

        def quats(field: Fields) -> Tensor:
            quat = places(field).quat[:, at]
            return quat / quat.norm(dim=-1, keepdim=True)

        def centres(field: Fields) -> Tensor:
            pos, turn = body(field)
            return pos + turned(turn, field("body_ipos")[:, at])

        def axes(field: Fields) -> Tensor:
            return body(field)[1] @ matrices(field("body_iquat")[:, at])

        made: dict[str, tuple[list[int], Make]] = {
            "xpos": (bodies, lambda field: body(field)[0]),
            "xquat": (bodies, quats),
            "xmat": (bodies, lambda field: body(field)[1].flatten(-2)),
            "xipos": (bodies, centres),
            "ximat": (bodies, lambda field: axes(field).flatten(-2)),
            "geom_xpos": (geoms, lambda field: geom(field)[0]),
            "geom_xmat": (geoms, lambda field: geom(field)[1].flatten(-2)),
            "site_xpos": (sites, lambda field: site(field)[0]),
            "site_xmat": (sites, lambda field: site(field)[1].flatten(-2)),
        }
        self._made = {
            name: (on.index(ids), make, sources(make, shared))
            for name, (ids, make) in made.items()
            if ids
        }

    def write(
        self, derived: Mapping[str, Tensor], field: Fields, envs: slice | Tensor, changed: set[str]
    ) -> None:
        """Write into `derived` (N, ...), in environments `envs`, what follows from model fields
        that are `changed`; `field` gives those of `envs`."""
        for name, (ids, make, own) in self._made.items():
            if name not in derived or not own & changed:
                continue
            rows, values = derived[name], make(field).float()
            if isinstance(envs, Tensor):
                rows[envs[:, None], ids] = values.expand(len(envs), *values.shape[1:])
            else:
                rows.index_copy_(1, ids, values.expand(len(rows), *values.shape[1:]))
