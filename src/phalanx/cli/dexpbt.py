"""Population based training by DexPBT's rules, as a scheduler of Ray Tune.

At every interval of environment steps a trial among the worst is compared with a random one of the
best. If the gap is large it goes on from the other's weights, and every second time with the
other's settings; otherwise from its own. The settings are mutated: each with probability 0.15 is
multiplied or divided by a number between 1.1 and 1.5.
Source: arXiv:2305.12127; defaults, and what the paper leaves open, are those of IsaacGymEnvs.
"""

import math
import random
import statistics
import uuid
from dataclasses import dataclass, field
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from phalanx.cli.study import Study
from phalanx.config import ranged


@dataclass(frozen=True)
class PBTOptions:
    """Settings of `scheduler=pbt`, with IsaacGymEnvs' names."""

    interval_steps: int = ranged(10_000_000, at_least=1)
    """Environment steps between two decisions about a trial."""
    start_after: int = ranged(10_000_000, at_least=0)
    """Environment steps of a trial after its start, or its last change, before it is changed."""
    initial_delay: int = ranged(20_000_000, at_least=0)
    """Environment steps before any trial is changed."""
    replace_fraction_worst: float = ranged(0.125, above=0, at_most=0.5)
    """Share of the trials that may be replaced, rounded up."""
    replace_fraction_best: float = ranged(0.3, above=0, at_most=0.5)
    """Share of the trials that they may take from, rounded up."""
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
    finite = sorted(filter(math.isfinite, all_scores))
    kept = finite[len(finite) // 5 :]
    spread = statistics.pstdev(kept) if len(kept) > 1 else 0.0
    gap = better - worse
    relative = o.replace_threshold_frac_absolute * abs(better)
    return gap > o.replace_threshold_frac_std * spread and gap > relative


@dataclass
class _Seen:
    """What the scheduler knows of a trial."""

    began: float
    """Environment steps when it started, or was last changed."""
    interval: float
    """Number of the last interval in which it was looked at."""
    frames: float = 0.0
    """Environment steps at its last report."""
    best: float = -math.inf
    """Highest return in the present interval."""
    score: float | None = None
    """Return at the end of its last interval, by which trials are compared; -inf for NaN."""


class DexPBT(FIFOScheduler):
    """Ray's interface, with DexPBT's choice of trials, donors and mutations."""

    def __init__(self, options: PBTOptions, study: Study, seed: int) -> None:
        super().__init__()
        self.options, self.study, self.rng = options, study, random.Random(seed)
        self._seen: dict[Any, _Seen] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """A trial that begins, or goes on in a study that continues."""
        curve = self.study.trial(trial.config["trial"]["number"]).curve
        self._see(trial, curve)

    def _see(self, trial: Trial, curve: list[list[float]]) -> None:
        """It starts at the end of that curve."""
        began = curve[-1][1] if curve else 0.0
        score = self._seen[trial].score if trial in self._seen else None
        interval = began // self.options.interval_steps
        self._seen[trial] = _Seen(began, interval, frames=began, score=score)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Decide about a trial; one that ends before it has reported gives an empty `result`."""
        if "frames" not in result:
            return str(self.CONTINUE)
        seen, o = self._seen[trial], self.options
        seen.frames, score = result["frames"], float(result[self.metric])
        score = -math.inf if math.isnan(score) else score
        seen.best = max(seen.best, score)
        interval = seen.frames // o.interval_steps
        if interval <= seen.interval:
            return str(self.CONTINUE)
        best = seen.best
        seen.interval, seen.score, seen.best = interval, score, -math.inf
        if result.get("last"):  # it would train nothing with other settings
            return str(self.CONTINUE)
        ready = seen.frames - seen.began >= o.start_after and seen.frames >= o.initial_delay
        donor = self.donor(trial, best) if ready else None
        if donor is not None:
            chosen = self.changed(trial, donor)
            tune_controller.pause_trial(trial, should_checkpoint=False)
            trial.set_config({**trial.config, "trial": chosen})
            self._see(trial, chosen["curve"])
            return str(self.NOOP)
        waiting = (Trial.PENDING, Trial.PAUSED)
        wait = any(other.status in waiting for other in tune_controller.get_trials())
        return str(self.PAUSE if wait else self.CONTINUE)

    def donor(self, trial: Trial, best: float) -> Trial | None:
        """One of the best trials if this one is among the worst; None if it goes on unchanged.
        best: its highest return since it was last looked at, since one may dip for a moment."""
        o = self.options

        def score(trial: Trial) -> float:
            known = self._seen[trial].score
            return -math.inf if known is None else known

        ranked = sorted((t for t in self._seen if t.status != Trial.ERROR), key=score, reverse=True)
        count, known = len(ranked), sum(map(math.isfinite, map(score, ranked)))
        top = ranked[: math.ceil(o.replace_fraction_best * count)]
        worst = ranked[-math.ceil(o.replace_fraction_worst * count) :]
        if trial not in worst or trial in top or best >= min(map(score, top)):
            return None
        if known <= max(min(2, count - 1), count // 2):  # most have not come that far
            return None
        return self.rng.choice(top)

    def changed(self, trial: Trial, donor: Trial) -> dict[str, Any]:
        """What the trial goes on with."""
        own, other = trial.config["trial"], donor.config["trial"]
        scores = [s.score for s in self._seen.values() if s.score is not None]
        better, worse = self._seen[donor].score, self._seen[trial].score
        assert better is not None
        assert worse is not None
        source = other if large_gap(better, worse, scores, self.options) else own
        record, checkpoint = self.study.take(source["number"])
        settings = self.rng.choice((source, own))["values"]
        taken = {k: v for k, v in settings.items() if k in self.options.mutation}
        return {
            "number": own["number"],
            "values": mutated({**own["values"], **taken}, self.options, self.rng),
            "checkpoint": checkpoint,
            "curve": record.curve,
            "change": uuid.uuid4().hex,
        }

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Of those that wait, the one that has come least far, so that all have their share."""
        waiting = (Trial.PENDING, Trial.PAUSED)
        found = [t for t in tune_controller.get_trials() if t.status in waiting]
        return min(found, key=lambda t: self._seen[t].frames, default=None)
