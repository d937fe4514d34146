"""Domain randomisation of properties, as described in the YAML files of IsaacGymEnvs.

One attribute's entry, `params` below:

    range: [0.5, 1.5]         # lowest and highest; for gaussian: mean and standard deviation
    distribution: uniform     # or loguniform, gaussian
    operation: scaling        # or additive: how the sample changes the original value
    schedule: linear          # optional: linear grows until schedule_steps; constant starts
                              # with full effect at schedule_steps
    schedule_steps: 3000
    num_buckets: 250          # optional: number of different values
"""

# ruff: noqa: NPY002  (programs seed the global generator)

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isaacgym.params import SimParams
from phalanx.errors import PhalanxError, did_you_mean

MAX_MATERIALS = 64000  # PhysX's limit, which programs expect to be checked

_PROPERTIES = (
    "dof_properties tendon_properties rigid_body_properties rigid_shape_properties".split()
)


def get_property_setter_map(gym: Any) -> dict:
    """The setter of each kind of property."""
    setters = {name: getattr(gym, f"set_actor_{name}") for name in _PROPERTIES}
    return setters | {"sim_params": gym.set_sim_params}


def get_property_getter_map(gym: Any) -> dict:
    """The getter of each kind of property."""
    getters = {name: getattr(gym, f"get_actor_{name}") for name in _PROPERTIES}
    return getters | {"sim_params": gym.get_sim_params}


def get_default_setter_args(gym: Any) -> dict:
    """Arguments of each setter after the properties: inertias of bodies follow their masses."""
    return {name: [] for name in [*_PROPERTIES, "sim_params"]} | {"rigid_body_properties": [True]}


def generate_random_samples(
    params: Mapping, shape: Any, curr_gym_step_count: int, extern_sample: Any = None
) -> Any:
    """Random numbers of `shape` for one attribute at this step, to be added to or multiplied with
    the original. `extern_sample` replaces the draw; the schedule still scales it.

    Raises PhalanxError for an unknown distribution, operation or schedule.
    """
    neutral = _neutral(params)
    effect = _schedule(params, curr_gym_step_count)
    if extern_sample is not None:
        return neutral + effect * (extern_sample - neutral)
    a, b = params["range"]
    distribution = params["distribution"]
    if distribution == "gaussian":
        return np.random.normal(neutral + effect * (a - neutral), effect * b, shape)
    low, high = (neutral + effect * (bound - neutral) for bound in (a, b))
    if distribution == "uniform":
        return np.random.uniform(low, high, shape)
    if distribution == "loguniform":
        return np.exp(np.random.uniform(np.log(low), np.log(high), shape))
    raise _unknown("distribution", distribution, ("uniform", "loguniform", "gaussian"))


def _neutral(params: Mapping) -> int:
    """The sample that changes nothing."""
    neutral = {"additive": 0, "scaling": 1}
    if params["operation"] not in neutral:
        raise _unknown("operation", params["operation"], neutral)
    return neutral[params["operation"]]


def _schedule(params: Mapping, step: int) -> float:
    """Strength of the effect at this step, 0 .. 1."""
    schedule = params.get("schedule")
    if schedule is None:
        return 1.0
    steps = params["schedule_steps"]
    if schedule == "linear":
        return min(step, steps) / steps
    if schedule == "constant":
        return float(step >= steps)
    raise _unknown("schedule", schedule, ("linear", "constant"))


def _unknown(key: str, value: Any, accepted: Any) -> PhalanxError:
    return PhalanxError(
        f"randomisation: unknown {key} {value!r}{did_you_mean(str(value), accepted)}; accepted:"
        f" {', '.join(accepted)}"
    )


def get_bucketed_val(new_prop_val: Any, params: Mapping) -> Any:
    """The lower bound of each value's bucket; values outside the range take the outermost bucket.

    The buckets share the range evenly; for gaussian it is the mean +- 2 sqrt(range[1]).
    """
    low, high = params["range"]
    if params["distribution"] == "gaussian":
        spread = 2 * np.sqrt(high)
        low, high = low - spread, low + spread
    buckets = np.linspace(low, high, params["num_buckets"], endpoint=False)
    found = np.searchsorted(buckets, new_prop_val, side="right") - 1
    return buckets[np.maximum(found, 0)]


def apply_random_samples(
    prop: Any,
    og_prop: Any,
    attr: str,
    params: Mapping,
    curr_gym_step_count: int,
    extern_sample: Any = None,
    bucketing_randomization_params: Mapping | None = None,
) -> None:
    """Draw a new value of `attr` and write it into `prop`.

    prop: SimParams (gravity, rest_offset), an array of DOF properties (the whole column), or a
    property struct. og_prop: original values by name. bucketing_randomization_params: its range
    gives the buckets, if it is not that of `params`."""
    if isinstance(prop, SimParams):
        _randomize_sim(prop, og_prop, attr, params, curr_gym_step_count)
        return
    shape = prop[attr].shape if isinstance(prop, np.ndarray) else 1
    sample = generate_random_samples(params, shape, curr_gym_step_count, extern_sample)
    value = _combine(og_prop[attr], sample, params)
    if params.get("num_buckets", 0) > 0:
        value = get_bucketed_val(value, bucketing_randomization_params or params)
    if isinstance(prop, np.ndarray):
        prop[attr] = value
    else:
        setattr(prop, attr, value)


def _randomize_sim(
    prop: SimParams, og_prop: Mapping, attr: str, params: Mapping, step: int
) -> None:
    if attr == "gravity":
        sample = generate_random_samples(params, 3, step)
        for i, axis in enumerate("xyz"):
            setattr(
                prop.gravity, axis, _combine(getattr(og_prop["gravity"], axis), sample[i], params)
            )
    elif attr == "rest_offset":
        prop.physx.rest_offset = generate_random_samples(params, 1, step)
    else:
        raise PhalanxError(
            f"randomisation: sim_params.{attr} cannot be randomised, only gravity and rest_offset"
        )


def _combine(original: Any, sample: Any, params: Mapping) -> Any:
    return original * sample if params["operation"] == "scaling" else original + sample


def check_buckets(gym: Any, envs: Sequence, dr_params: Mapping) -> None:
    """Raise AssertionError if the randomised shapes need more materials than PhysX has."""
    actors = {
        name: properties["rigid_shape_properties"]
        for name, properties in dr_params["actor_params"].items()
        if "rigid_shape_properties" in properties
    }
    buckets = sum(_num_buckets(attributes) for attributes in actors.values())
    assert buckets <= MAX_MATERIALS, (
        f"randomisation asks for {buckets} buckets of shape properties; use at most {MAX_MATERIALS}"
    )
    if buckets:
        return
    shapes = 0
    for env in envs:
        for i in range(gym.get_actor_count(env)):
            handle = gym.get_actor_handle(env, i)
            if gym.get_actor_name(env, handle) in actors:
                shapes += gym.get_actor_rigid_shape_count(env, handle)
    assert shapes <= MAX_MATERIALS, (
        f"randomisation would give {shapes} shapes a material each, more than {MAX_MATERIALS};"
        " set num_buckets for their friction or restitution"
    )


def _num_buckets(attributes: Mapping) -> int:
    """Number of materials of one actor: the product of the num_buckets of its attributes."""
    counts = [
        attributes.get(name, {}).get("num_buckets", 0) for name in ("restitution", "friction")
    ]
    return int(np.prod([count for count in counts if count])) if any(counts) else 0
