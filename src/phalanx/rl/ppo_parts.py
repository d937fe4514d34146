"""The parts that a PPO config asks for."""

from typing import Any

from phalanx.config import read
from phalanx.rl.critic import CentralValue
from phalanx.rl.curiosity import Curiosity, RNDConfig
from phalanx.rl.diagnostics import Diagnostics
from phalanx.rl.part import Part
from phalanx.rl.symmetry import Symmetry, SymmetryConfig


def ppo_parts(learner: Any, env: Any) -> list[Part]:
    """Parts of the PPO `learner`, in the order in which they are asked."""
    c = learner.config
    parts: list[Part] = []
    if c.central_value_config is not None:
        parts.append(CentralValue(c, env))
    if c.rnd_config is not None:
        rnd = read(RNDConfig, c.rnd_config, "params.config.rnd_config")
        parts.append(Curiosity(rnd, env.observation_space.shape, learner.device))
    if c.symmetry_config is not None:
        symmetry = read(SymmetryConfig, c.symmetry_config, "params.config.symmetry_config")
        parts.append(Symmetry(symmetry, env, learner.model))
    if c.use_diagnostics:
        parts.append(Diagnostics(learner))
    return parts
