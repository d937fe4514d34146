"""Learn Cartpole in thousands of environments at once: no RL framework, only PyTorch.

    python examples/minimal/trainer.py --method {dqn,ppo,ppo_d}

`phalanx.tasks` is the environment, this file is the loop, and each method is one file in this
folder: `ppo.py` (continuous actions), `ppo_discrete.py` and `dqn.py`. Inspired by
minimal-isaac-gym, with the same flags. Training ends by itself once the poles stay up.
"""

import argparse
import time

import torch
from dqn import DQN
from ppo import PPO
from ppo_discrete import DiscretePPO
from torch import Tensor

from phalanx.errors import PhalanxError
from phalanx.tasks import Task

METHODS = {"dqn": DQN, "ppo": PPO, "ppo_d": DiscretePPO}
STEPS_PER_LINE = 100
SOLVED_LENGTH = 490  # steps; episodes are truncated after 500


class Episodes:
    """Return and length of every environment's latest finished episode.

    The mean of all recently finished episodes would be biased: of those that began together, long
    ones finish last. One episode from every environment is unbiased.
    """

    def __init__(self, env: Task) -> None:
        # (2, N): return and length. They stay on the device, so that counting never waits for it.
        self.running = torch.zeros(2, env.num_envs, device=env.device)
        self.latest = torch.zeros_like(self.running)

    def count(self, reward: Tensor, done: Tensor) -> None:
        self.running += torch.stack([reward, torch.ones_like(reward)])
        self.latest = torch.where(done, self.running, self.latest)
        self.running = torch.where(done, 0.0, self.running)


def train(method: str, sim_device: str, num_envs: int | None, seed: int, max_steps: int) -> None:
    """Learn until solved, at most `max_steps` steps of every environment."""
    # More threads do not help networks this small; physics has its own threads.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    policy = METHODS[method](sim_device, num_envs)
    env = policy.env
    episodes = Episodes(env)
    print(f"{method}: {env.num_envs} Cartpoles on {env.device}, seed {seed}")

    step, began = 0, time.perf_counter()
    while step < max_steps:
        line_steps, line_began = min(STEPS_PER_LINE, max_steps - step), time.perf_counter()
        for _ in range(line_steps):
            policy.run()  # one step in every environment and, when due, learning
            episodes.count(env.rew_buf, env.terminated | env.truncated)
        step += line_steps

        mean_return, mean_length = episodes.latest.mean(1).tolist()  # waits for the device
        speed = line_steps * env.num_envs / (time.perf_counter() - line_began)
        print(
            f"step {step:5d} | return {mean_return:6.1f} | length {mean_length:5.1f}"
            f" | {speed:9,.0f} steps/s",
            flush=True,
        )
        if mean_length >= SOLVED_LENGTH:
            seconds = time.perf_counter() - began
            print(f"Solved in {seconds:.1f} s: episodes last {mean_length:.0f} of 500 steps.")
            return
    print(f"Not solved in {max_steps} steps, {time.perf_counter() - began:.1f} s.")


def main() -> None:
    # Without the usage, an error is one sentence.
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], usage=argparse.SUPPRESS)
    parser.add_argument("--method", choices=METHODS, default="ppo")
    parser.add_argument("--sim_device", default="auto", help="cpu, cuda:0 or auto: a GPU if any")
    parser.add_argument("--num_envs", type=int, help="default: 512 on a CPU, 4096 on a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=10_000, help="give up after this number")
    parser.add_argument("--headless", action="store_true", help="accepted: nothing is ever drawn")
    args = parser.parse_args()
    if args.steps < 1 or not 0 <= args.seed < 2**63:
        parser.error("--steps must be 1 or more, --seed from 0 to 2**63 - 1")
    try:
        train(args.method, args.sim_device, args.num_envs, args.seed, args.steps)
    except PhalanxError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "Stopped.\n")


if __name__ == "__main__":
    main()
