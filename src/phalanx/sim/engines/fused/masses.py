"""Masses of bodies where `Places` puts them."""

from collections.abc import Sequence

from torch import Tensor

from phalanx.sim.engines.fused.places import Places
from phalanx.sim.engines.fused.placing import Fields, Make, joined, matrices, turned

SIX = ((0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2))
"""Rows and columns of a symmetric tensor's numbers: xx yy zz xy xz yz."""


def inertias(places: Places, bodies: Sequence[int]) -> Make:
    """(E, n, 10) of `bodies`, in the frames of their slots or the world's: inertia about the centre
    of mass, the centre, the mass."""
    on = places.on
    at, place, row, column = on.index(bodies), places.of(bodies), on.index(SIX[0]), on.index(SIX[1])

    def make(field: Fields) -> Tensor:
        pos, turn = place(field)
        axes = turn @ matrices(field("body_iquat")[:, at])
        tensor = (axes * field("body_inertia")[:, at, None]) @ axes.transpose(-1, -2)
        centre = pos + turned(turn, field("body_ipos")[:, at])
        return joined(tensor[..., row, column], centre, field("body_mass")[:, at, None])

    return make


def static_masses(places: Places) -> Make:
    """(E, bodies, 4) mass x centre and mass of what never moves; the world's own is none."""
    s = places.structure
    bodies = range(s.model.nbody)
    still = places.on([b > 0 and s.slot_of_body(b) < 0 for b in bodies])
    centres = places.of(bodies)

    def make(field: Fields) -> Tensor:
        (pos, turn), mass = centres(field), (field("body_mass") * still)[..., None]
        return joined(mass * (pos + turned(turn, field("body_ipos"))), mass)

    return make
