"""Learning: Runner -> Agent or Player -> Model -> Network; knows a vec-env, knows no physics."""

from phalanx.rl import amp_network, models, resnet  # noqa: F401  (they register what they define)
from phalanx.rl.agent import Agent
from phalanx.rl.amp import AMPAgent
from phalanx.rl.observer import AlgoObserver
from phalanx.rl.ppo import A2CAgent
from phalanx.rl.ppo_discrete import DiscreteA2CAgent
from phalanx.rl.registry import register_model, register_network
from phalanx.rl.runner import Runner

__all__ = [
    "A2CAgent",
    "AMPAgent",
    "Agent",
    "AlgoObserver",
    "DiscreteA2CAgent",
    "Runner",
    "register_model",
    "register_network",
]
