"""Domain randomisation: what differs between environments, and what disturbs a step.

    Randomizer(sim, params, actions, observations)     # everything, as `Task` uses it
    RandomModel(sim, params)                           # fields of the model only, without a task

`distribution.py` reads one entry of the YAML and draws from it; `model_addresses.py` finds where a
quantity lives in MuJoCo's model; `random_fields.py` writes samples there; `disturbances.py` holds
noise, latency and pushes. The package stands on `phalanx.sim` and knows no task.
"""

from phalanx.randomization.random_model import RandomModel, prepare
from phalanx.randomization.randomizer import Randomizer

__all__ = ["RandomModel", "Randomizer", "prepare"]
