"""Domain randomisation: model fields that differ between environments, noise, latency, pushes.

    Randomizer(sim, params, actions, observations)     # everything, as `Task` uses it
    RandomModel(sim, params)      # model fields only, without a task: sim_params and actor_params

`distribution.py` reads one entry of the YAML and draws from it; `model_addresses.py` finds the
elements of MuJoCo's model that hold a quantity; `random_fields.py` writes samples to them;
`disturbances.py` has noise, latency and pushes. The package uses `phalanx.sim` and knows no tasks.
"""

from phalanx.randomization.random_model import RandomModel, prepare
from phalanx.randomization.randomizer import Randomizer

__all__ = ["RandomModel", "Randomizer", "prepare"]
