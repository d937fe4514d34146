"""Your own imitation: the AMP agent with another discriminator objective and another reward.

    python examples/custom_amp_agent.py

A least-squares discriminator, as in the paper (arXiv:2104.02180, section 4), instead of cross
entropy: its targets are -1 for the policy and 1 for the clip, and the reward is 1 at an output of 1
and falls to 0 at -1. The new agent and player are registered by name and selected by that name,
exactly as in RL Games.
"""

import sys

from phalanx.cli.config import compose_config, train_params
from phalanx.rl import AMPAgent, Runner, register_model, register_network
from phalanx.rl.amp_network import AMPBuilder
from phalanx.rl.amp_player import AMPPlayerContinuous
from phalanx.rl.models import ContinuousLogStdNetwork, Model


def least_squares_reward(logit, scale):
    return scale * (1 - 0.25 * (logit - 1).square()).clamp(min=0)


class LeastSquaresAMPAgent(AMPAgent):
    """AMP that regresses to -1 and 1."""

    def disc_prediction_loss(self, agent_logit, demo_logit):
        return 0.5 * ((agent_logit + 1).square().mean() + (demo_logit - 1).square().mean())

    def disc_rewards(self, amp_obs):
        logit = self.model.a2c_network.eval_disc(self.preprocess_amp_obs(amp_obs))
        return least_squares_reward(logit, self.config.disc_reward_scale)


class LeastSquaresAMPPlayer(AMPPlayerContinuous):
    """Reports that reward."""

    def disc_rewards(self, logits):
        return least_squares_reward(logits, self.config.disc_reward_scale)


def main(arguments):
    params = train_params(compose_config(arguments))
    params["algo"]["name"] = "least_squares_amp"
    params["model"]["name"] = "my_model"
    params["network"]["name"] = "my_network"
    register_model("my_model", lambda network, **kwargs: Model(network, ContinuousLogStdNetwork))
    register_network("my_network", lambda **kwargs: AMPBuilder())
    runner = Runner()
    runner.algo_factory.register_builder(
        "least_squares_amp", lambda **kwargs: LeastSquaresAMPAgent(**kwargs)
    )
    runner.player_factory.register_builder(
        "least_squares_amp", lambda **kwargs: LeastSquaresAMPPlayer(**kwargs)
    )
    runner.load({"params": params})
    runner.run({"train": True})
    folder = f"{params['config']['train_dir']}/{params['config']['full_experiment_name']}"
    player = runner.create_player()
    player.restore(f"{folder}/nn/last_{params['config']['name']}.pth")
    result = player.run()
    reward = result.measures["discriminator reward"]
    print(f"episodes of {result.mean_length:.1f} steps, discriminator reward {reward:.3f}")
    return result


if __name__ == "__main__":
    main(sys.argv[1:] or ["task=HumanoidAMP", "max_iterations=60", "experiment=LeastSquares"])
