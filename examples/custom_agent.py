"""Your own algorithm: PPO with one method changed.

    python examples/custom_agent.py

It adds a penalty on the mean action to the loss, which keeps a policy gentle. The agent is
registered under a new name and selected by that name, exactly as in RL Games.
"""

import sys

from phalanx.cli.config import compose_config, train_params
from phalanx.rl import A2CAgent, Runner
from phalanx.rl.players import PpoPlayerContinuous

GENTLENESS = 0.01


class GentleAgent(A2CAgent):
    """PPO with an additional loss term, GENTLENESS x the mean square of the mean action."""

    def calc_losses(self, batch, result):
        return super().calc_losses(batch, result) + GENTLENESS * result["mus"].square().mean()


def main(arguments):
    params = train_params(compose_config(arguments))
    params["algo"]["name"] = "gentle"
    runner = Runner()
    runner.algo_factory.register_builder("gentle", lambda **kwargs: GentleAgent(**kwargs))
    runner.player_factory.register_builder("gentle", lambda **kwargs: PpoPlayerContinuous(**kwargs))
    runner.load({"params": params})
    best, iterations = runner.run({"train": True})
    print(f"best mean return {best:.1f} after {iterations} iterations")
    return best


if __name__ == "__main__":
    main(sys.argv[1:] or ["task=Cartpole", "max_iterations=60", "experiment=Gentle"])
