"""Population based training by DexPBT's rules, as a scheduler of Ray Tune.

At every interval of environment steps a trial among the worst takes the settings of a random one of
the best, half of them, and mutates them: each with probability 0.15 is multiplied or divided by a
number between 1.1 and 1.5. If the gap between the two is large it takes the other's weights, too.
Source: arXiv:2305.12127; defaults are those of IsaacGymEnvs.
"""

import math
import random
import statistics
import uuid
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import PopulationBasedTraining

from phalanx.cli.study import Study
from phalanx.config import ranged


@dataclass(frozen=True)
class PBTOptions:
    """Settings of `scheduler=pbt`, with IsaacGymEnvs' names."""

    interval_steps: int = ranged(10_000_000, at_least=1)
    """Environment steps between two decisions about a trial."""
    start_after: int = ranged(10_000_000, at_least=0)
    """Environment steps before the first."""
    replace_fraction_worst: float = ranged(0.125, above=0, at_most=0.5)
    """Share of the trials that may be replaced."""
    replace_fraction_best: float = ranged(0.3, above=0, at_most=0.5)
    """Share of the trials that they may take from."""
    replace_threshold_frac_std: float = ranged(0.5, at_least=0)
    """Least gap for taking weights, in standard deviations of the returns."""
    replace_threshold_frac_absolute: float = ranged(0.05, at_least=0)
    """Least gap for taking weights, as a fraction of the better return."""
    mutation_rate: float = ranged(0.15, at_least=0, at_most=1)
    change_min: float = ranged(1.1, at_least=1)
    change_max: float = ranged(1.5, at_least=1)
    mutation: dict[str, str] = field(
        default_factory=lambda: {
            "learning_rate": "mutate_float",
            "grad_norm": "mutate_float",
            "entropy_coef": "mutate_float",
            "critic_coef": "mutate_float",
            "bounds_loss_coef": "mutate_float",
            "kl_threshold": "mutate_float",
            "e_clip": "mutate_eps_clip",
            "mini_epochs": "mutate_mini_epochs",
            "gamma": "mutate_discount",
            "tau": "mutate_discount",
        }
    )
    """How each setting is mutated: mutate_float, mutate_float_min_1, mutate_eps_clip,
    mutate_mini_epochs or mutate_discount; a name without a dot is of train.params.config, and those
    that the config lacks are left out."""


def mutated(values: dict[str, Any], o: PBTOptions, rng: random.Random) -> dict[str, Any]:
    """`values` by key, each mutated with probability `mutation_rate`."""
    return {
        key: MUTATIONS[o.mutation[key]](value, o.change_min, o.change_max, rng)
        if key in o.mutation and rng.random() < o.mutation_rate
        else value
        for key, value in values.items()
    }


def mutate_float(x: float, low: float, high: float, rng: random.Random) -> float:
    """x times or divided by a number from `low` to `high`."""
    factor = rng.uniform(low, high)
    return x * factor if rng.random() < 0.5 else x / factor


def _min_1(x: float, low: float, high: float, rng: random.Random) -> float:
    return max(1.0, mutate_float(x, low, high, rng))


def _eps_clip(x: float, low: float, high: float, rng: random.Random) -> float:
    return min(max(mutate_float(x, low, high, rng), 0.01), 0.3)


def _mini_epochs(x: float, low: float, high: float, rng: random.Random) -> int:
    return min(max(int(x) + rng.choice((-1, 1)), 1), 8)


def _discount(x: float, low: float, high: float, rng: random.Random) -> float:
    return 1 - mutate_float(1 - x, 1.1, 1.2, rng)


MUTATIONS: dict[str, Any] = {
    "mutate_float": mutate_float,
    "mutate_float_min_1": _min_1,
    "mutate_eps_clip": _eps_clip,
    "mutate_mini_epochs": _mini_epochs,
    "mutate_discount": _discount,
}


def large_gap(better: float, worse: float, all_scores: list[float], o: PBTOptions) -> bool:
    """Whether a trial with return `worse` takes the weights of one with `better`. The spread of the
    returns is that without the lowest fifth."""
    kept = sorted(all_scores)[len(all_scores) // 5 :]
    spread = statistics.pstdev(kept) if len(kept) > 1 else 0.0
    gap = better - worse
    relative = o.replace_threshold_frac_absolute * abs(better)
    return gap > o.replace_threshold_frac_std * spread and gap > relative


class DexPBT(PopulationBasedTraining):
    """Ray's scheduler with DexPBT's choice of trials and mutations."""

    def __init__(self, options: PBTOptions, study: Study, seed: int) -> None:
        super().__init__(
            time_attr="frames",
            perturbation_interval=options.interval_steps,
            burn_in_period=options.start_after,
            quantile_fraction=options.replace_fraction_worst,
            custom_explore_fn=lambda config: config,
        )
        self.options, self.study, self.rng = options, study, random.Random(seed)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide about a trial; one that ends before it has reported gives an empty `result`."""
        if "frames" not in result:
            return str(self.CONTINUE)
        return str(super().on_trial_result(tune_controller, trial, result))

    def _quantiles(self) -> tuple[list[Trial], list[Trial]]:
        seen = [t for t, s in self._trial_state.items() if s.last_score is not None]
        seen = [t for t in seen if not t.is_finished()]
        seen.sort(key=lambda t: self._trial_state[t].last_score)
        if len(seen) < 2:
            return [], []
        o, half = self.options, len(seen) // 2
        worst = min(math.ceil(o.replace_fraction_worst * len(seen)), half)
        best = min(math.ceil(o.replace_fraction_best * len(seen)), len(seen) - worst)
        return seen[:worst], seen[-best:]

    def _get_new_config(self, trial: Trial, trial_to_clone: Trial) -> tuple[dict, dict]:
        own, other = trial.config["trial"], trial_to_clone.config["trial"]
        scores = [s.last_score for s in self._trial_state.values() if s.last_score is not None]
        states = self._trial_state
        better, worse = states[trial_to_clone].last_score, states[trial].last_score
        takes = large_gap(better, worse, scores, self.options)
        donor, checkpoint = self.study.take(other["number"] if takes else own["number"])
        values = {
            key: self.rng.choice((value, other["values"].get(key, value)))
            for key, value in own["values"].items()
        }
        chosen = {
            "number": own["number"],
            "values": mutated(values, self.options, self.rng),
            "checkpoint": checkpoint,
            "curve": donor.curve,
            "change": uuid.uuid4().hex,
        }
        return {**trial.config, "trial": chosen}, {}
