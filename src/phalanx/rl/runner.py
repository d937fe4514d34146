"""`Runner`: from RL Games' YAML to an agent that trains or a player that plays.

    runner = Runner()
    runner.load(yaml.safe_load(open("CartpolePPO.yaml")))
    runner.reset()
    runner.run({"train": True})

It only builds: `run` looks the algorithm up by name, restores a checkpoint and hands over. Add
your own with `runner.algo_factory.register_builder("my_algo", lambda **kwargs: MyAgent(**kwargs))`
and likewise on `player_factory`; models and networks with `register_model`, `register_network`.
"""

import copy
import time
from collections.abc import Mapping
from typing import Any

import torch

from phalanx.errors import PhalanxError
from phalanx.rl.agents import A2CAgent, AMPAgent, DiscreteA2CAgent, DQNAgent, SACAgent
from phalanx.rl.amp_player import AMPPlayerContinuous
from phalanx.rl.observer import AlgoObserver
from phalanx.rl.players import DQNPlayer, PpoPlayerContinuous, PpoPlayerDiscrete, SACPlayer
from phalanx.rl.registry import ObjectFactory


class Runner:
    """Builds and runs what a configuration names."""

    def __init__(self, algo_observer: AlgoObserver | None = None) -> None:
        self.algo_factory = ObjectFactory("algorithm")
        self.algo_factory.register_builder("a2c_continuous", lambda **kwargs: A2CAgent(**kwargs))
        self.algo_factory.register_builder(
            "a2c_discrete", lambda **kwargs: DiscreteA2CAgent(**kwargs)
        )
        self.algo_factory.register_builder("sac", lambda **kwargs: SACAgent(**kwargs))
        self.algo_factory.register_builder("dqn", lambda **kwargs: DQNAgent(**kwargs))
        self.algo_factory.register_builder("amp_continuous", lambda **kwargs: AMPAgent(**kwargs))
        self.player_factory = ObjectFactory("player")
        self.player_factory.register_builder("sac", lambda **kwargs: SACPlayer(**kwargs))
        self.player_factory.register_builder("dqn", lambda **kwargs: DQNPlayer(**kwargs))
        self.player_factory.register_builder(
            "a2c_continuous", lambda **kwargs: PpoPlayerContinuous(**kwargs)
        )
        self.player_factory.register_builder(
            "a2c_discrete", lambda **kwargs: PpoPlayerDiscrete(**kwargs)
        )
        self.player_factory.register_builder(
            "amp_continuous", lambda **kwargs: AMPPlayerContinuous(**kwargs)
        )
        self.algo_observer = algo_observer or AlgoObserver()
        self.params: dict[str, Any] = {}
        self.algo_name = ""

    def load(self, yaml_dict: Mapping[str, Any]) -> None:
        """Take RL Games' mapping, with or without its outer `params`, and seed everything.

        A missing seed means one taken from the clock. Raises PhalanxError for a mapping that
        names no algorithm.
        """
        params = copy.deepcopy(dict(yaml_dict.get("params", yaml_dict)))
        algo = params.get("algo")
        if not isinstance(algo, Mapping) or "name" not in algo:
            raise PhalanxError("params.algo.name is missing, as in `algo: {name: a2c_continuous}`")
        if not isinstance(params.get("config"), Mapping):
            raise PhalanxError("params.config is missing, it must be a mapping of keys to values")
        self.algo_name = algo["name"]
        seed = params.get("seed")
        self.seed = int(time.time()) if seed is None else int(seed)
        torch.manual_seed(self.seed)
        threads = params.get("torch_threads")
        if isinstance(threads, int) and threads > 0:  # "auto" and 0 leave them alone
            torch.set_num_threads(threads)
        params["config"] = dict(params["config"])
        params["config"]["features"] = {
            **(params["config"].get("features") or {}),
            "observer": self.algo_observer,
        }
        self.params = params

    def reset(self) -> None:
        """Nothing to do; RL Games' programs call it."""

    def run(self, args: Mapping[str, Any]) -> Any:
        """Train, or play if `args["play"]`. `checkpoint`: a file to continue from; `sigma`: fixed
        log standard deviation to set. Returns what the agent or player returns."""
        if args.get("play") and not args.get("train"):
            return self.run_play(args)
        return self.run_train(args)

    def run_train(self, args: Mapping[str, Any]) -> tuple[float, int]:
        """Build the agent, restore, train; returns best mean return and iterations."""
        agent = self.algo_factory.create(self.algo_name, base_name="run", params=self.params)
        self._prepare(agent, args)
        return agent.train()

    def run_play(self, args: Mapping[str, Any]) -> Any:
        """Build the player, restore, play."""
        player = self.create_player()
        self._prepare(player, args)
        return player.run()

    def create_player(self) -> Any:
        """The player that the algorithm's name stands for."""
        return self.player_factory.create(self.algo_name, params=self.params)

    def _prepare(self, algo: Any, args: Mapping[str, Any]) -> None:
        if args.get("checkpoint"):
            algo.restore(args["checkpoint"])
        if args.get("sigma") is not None:
            network: Any = getattr(algo.model, "a2c_network", None)
            if not getattr(network, "fixed_sigma", False):
                raise PhalanxError("sigma can be set only for a network with fixed_sigma: true")
            with torch.no_grad():
                network.sigma.fill_(float(args["sigma"]))
