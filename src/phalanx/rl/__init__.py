"""Learning: a `Run` drives a learner in vectorised environments; independent of the physics."""

from phalanx.rl import amp_network, models, resnet  # noqa: F401  (they register what they define)
from phalanx.rl.agents import A2CAgent, Agent, AMPAgent, DiscreteA2CAgent, DQNAgent, SACAgent
from phalanx.rl.observer import AlgoObserver
from phalanx.rl.registry import register_model, register_network
from phalanx.rl.rl_games_observers import DefaultAlgoObserver, IsaacAlgoObserver
from phalanx.rl.runner import Runner

__all__ = [
    "A2CAgent",
    "AMPAgent",
    "Agent",
    "AlgoObserver",
    "DQNAgent",
    "DefaultAlgoObserver",
    "DiscreteA2CAgent",
    "IsaacAlgoObserver",
    "Runner",
    "SACAgent",
    "register_model",
    "register_network",
]
