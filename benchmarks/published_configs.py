"""Checks whether published RL Games files train here unchanged.

    git clone --depth 1 --branch v1.6.5 <rl_games> rl_games-v1.6.5      # and others, see README.md
    uv run python benchmarks/published_configs.py rl_games-v1.6.5 IsaacGymEnvs out=published.json

Every YAML with an RL Games `params` below the folders trains for one iteration in a toy environment
that has the observations and actions its network needs and is registered under its `env_name`.
Only sizes (`small`), the device and the run folder are changed. Values that Hydra would fill in
have their default. The table counts, by folder, files that train and files that are refused by
name: those with a network, model or algorithm of their own project, and self play. All other files
need an edit and are listed.
"""

import collections
import contextlib
import io
import json
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from phalanx.errors import PhalanxError
from phalanx.rl import Runner, vecenv
from phalanx.spaces import Box, Dict, Discrete, MultiDiscrete

N, ACTIONS, WIDTH = 4, 4, 12
BY_RIGHT = ("unknown algorithm", "unknown network", "unknown model", "self play", "self-play")
DEFAULT = re.compile(r"^\$\{resolve_default:\s*('[^']*'|\"[^\"]*\"|[^,]*),")


class Toy:
    """Random observations, episodes of 5 steps."""

    num_envs = N
    device = torch.device("cpu")

    def __init__(self, observations: Any, actions: Any, masks: bool) -> None:
        self.observation_space, self.action_space = observations, actions
        self.state_space = Box((WIDTH,))
        self.amp_observation_space = Box((WIDTH,))
        self.t = 0
        if masks:
            width = sum(getattr(actions, "nvec", (getattr(actions, "n", 0),)))
            self.get_action_masks = lambda: torch.ones(N, width, dtype=torch.bool)

    @property
    def observations(self) -> dict[str, Any]:
        space = self.observation_space
        if isinstance(space, Dict):
            obs: Any = {name: torch.rand(N, *box.shape) for name, box in space.spaces.items()}
        else:
            obs = torch.rand(N, *space.shape)
        return {"obs": obs, "states": torch.rand(N, WIDTH)}

    def reset(self) -> dict[str, Any]:
        return self.observations

    def step(self, actions: torch.Tensor) -> Any:
        self.t += 1
        ended = torch.full((N,), self.t % 5 == 0)
        infos = {"terminal": self.observations, "amp_obs": torch.rand(N, WIDTH)}
        return self.observations, torch.rand(N), ended, torch.zeros_like(ended), infos

    def fetch_amp_obs_demo(self, num_samples: int) -> torch.Tensor:
        return torch.rand(num_samples, WIDTH)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


def filled_in(value: Any) -> Any:
    """`value` with Hydra's interpolations replaced by their defaults, or removed without one."""
    if isinstance(value, dict):
        known = {k: filled_in(v) for k, v in value.items()}
        return {k: v for k, v in known.items() if v is not ...}
    if isinstance(value, list):
        return [filled_in(v) for v in value]
    if isinstance(value, str) and "${" in value:
        found = DEFAULT.match(value)
        return yaml.safe_load(found[1]) if found else ...
    return value


def spaces(params: dict[str, Any]) -> tuple[Any, Any]:
    """Observation and action spaces for the file's network."""
    network = params.get("network") or {}
    space = network.get("space") or {}
    if "multi_discrete" in space or "multi_discrete" in str(
        (params.get("model") or {}).get("name")
    ):
        actions: Any = MultiDiscrete((3, 2))
    elif "discrete" in space or "discrete" in params["algo"]["name"]:
        actions = Discrete(ACTIONS)
    else:
        actions = Box((ACTIONS,), -1.0, 1.0)
    return observed(network), actions


def observed(network: dict[str, Any]) -> Any:
    cnn = network.get("cnn")
    if not cnn:
        return Box((WIDTH,))
    if "1d" in str(cnn.get("type", "")):
        return Box((8, 64))
    last = cnn.get("permute_input", True)
    return Box((84, 84, 4) if last else (4, 84, 84))


def small(params: dict[str, Any], folder: str) -> dict[str, Any]:
    """`params` with small sizes; everything else as published."""
    c = params["config"]
    off_policy = params["algo"]["name"] in ("sac", "dqn")
    horizon = 8 * max(1, int(c.get("seq_length", c.get("seq_len", 4))))
    c |= {"num_actors": N, "max_epochs": 1, "device": "cpu", "train_dir": folder}
    c.setdefault("name", "published")
    c["full_experiment_name"] = "x"
    if off_policy:
        c |= {"num_warmup_steps": 1, "replay_buffer_size": 100, "batch_size": 8, "max_epochs": 3}
        c |= {"num_steps_per_episode": min(int(c.get("num_steps_per_episode", 1)), 4)}
        return params
    c |= {"horizon_length": horizon, "minibatch_size": N * horizon, "mini_epochs": 1}
    c.pop("minibatch_size_per_env", None)
    if isinstance(c.get("central_value_config"), dict):
        c["central_value_config"] |= {"minibatch_size": N * horizon, "mini_epochs": 1}
        c["central_value_config"].pop("minibatch_size_per_env", None)
    if params["algo"]["name"] == "amp_continuous":
        c |= {"amp_obs_demo_buffer_size": 512, "amp_replay_buffer_size": 512}
        c |= {"amp_batch_size": 64, "amp_minibatch_size": 16}
    return params


def attempt(file: Path) -> tuple[str, str]:
    """("trains" | "refused" | "fails", reason)."""
    params = filled_in(yaml.safe_load(file.read_text())["params"])
    observations, actions = spaces(params)
    masks = bool(params["config"].get("use_action_masks"))
    name = params["config"].get("env_name", "rlgpu")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vecenv.register(name, lambda **options: Toy(observations, actions, masks))
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                runner = Runner()
                runner.load({"params": small(params, folder)})
                runner.run({"train": True})
        except PhalanxError as error:
            return "refused", str(error)
        except Exception as error:  # a raw error is a finding
            return "fails", f"{type(error).__name__}: {error}"
    return "trains", ""


def configurations(folder: Path) -> list[Path]:
    """YAML files with `params` below `folder`."""
    found = []
    for file in sorted(folder.rglob("*.yaml")):
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
            content = yaml.safe_load(file.read_text())
            params = content.get("params") if isinstance(content, dict) else None
            if isinstance(params, dict) and "algo" in params:
                found.append(file)
    return found


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    out = next((a.removeprefix("out=") for a in arguments if a.startswith("out=")), "")
    table: dict[str, collections.Counter[str]] = {}
    reasons = []
    for source in (Path(a) for a in arguments if "=" not in a):
        counts = table[source.name] = collections.Counter()
        for file in configurations(source):
            print(f"\r{file.parent.name}/{file.name:50.50}", end="", file=sys.stderr, flush=True)
            outcome, why = attempt(file)
            if outcome == "refused" and any(words in why for words in BY_RIGHT):
                outcome = "refused by right"
            elif outcome != "trains":
                outcome = "needs an edit"
            counts[outcome] += 1
            if outcome != "trains":
                reasons.append({"file": str(file), "outcome": outcome, "why": why})
    for reason in reasons:
        print(f"{reason['outcome']:17} {reason['file']}: {reason['why'][:200]}")
    columns = ("trains", "refused by right", "needs an edit")
    print(f"{'':24}" + "".join(f"{c:>18}" for c in columns))
    for source_name, counts in table.items():
        print(f"{source_name:24}" + "".join(f"{counts[c]:18}" for c in columns))
    if out:
        rows = {name: dict(counts) for name, counts in table.items()}
        result = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__, "table": rows}
        Path(out).write_text(json.dumps(result | {"not_trained": reasons}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
