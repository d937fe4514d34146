"""Command lines, configs, debug geometry and domain randomisation.

args = gymutil.parse_arguments("Cartpole", custom_parameters=[{"name": "--seed", "type": int}])
gymutil.parse_sim_config(config["sim"], sim_params)
"""

# ruff: noqa: F401

import argparse
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any

from isaacgym.debug_lines import (
    AxesGeometry,
    LineGeometry,
    WireframeBBoxGeometry,
    WireframeBoxGeometry,
    WireframeSphereGeometry,
    draw_line,
    draw_lines,
)
from isaacgym.enums import SimType
from isaacgym.geometry import Vec3
from isaacgym.params import SimParams
from isaacgym.randomization import (
    apply_random_samples,
    check_buckets,
    generate_random_samples,
    get_bucketed_val,
    get_default_setter_args,
    get_property_getter_map,
    get_property_setter_map,
)
from isaacgym.structs import Struct
from phalanx.errors import PhalanxError


def parse_device_str(device_str: str) -> tuple[str, int]:
    """("cpu" or "cuda", number) of "cpu", "cuda" or "cuda:N". Raises PhalanxError for others."""
    kind, _, number = device_str.lower().partition(":")
    if kind == "cpu" and not number:
        return "cpu", 0
    if kind == "cuda" and (number.isdecimal() or device_str.lower() == "cuda"):
        return "cuda", int(number or 0)
    raise PhalanxError(f"unknown device {device_str!r}; use cpu, cuda or cuda:N")


def parse_bool(text: str) -> bool:
    """True for true, yes, on, 1 and False for false, no, off, 0 in any case."""
    answers = {"true": True, "yes": True, "on": True, "1": True}
    answers |= {"false": False, "no": False, "off": False, "0": False}
    if text.lower() not in answers:
        raise PhalanxError(f"{text!r} is neither true nor false; use one of {', '.join(answers)}")
    return answers[text.lower()]


def parse_arguments(
    description: str = "Isaac Gym Example",
    headless: bool = False,
    no_graphics: bool = False,
    custom_parameters: Sequence[Mapping] = (),
) -> argparse.Namespace:
    """Parse the command line: Isaac Gym's options and those of the program.

    headless, no_graphics: whether to offer --headless and --nographics. custom_parameters: dicts
    with `name`, `type` or `action`, and optionally `default` and `help`. The result also has
    `sim_device_type`, `compute_device_id`, `use_gpu`, `use_gpu_pipeline` and `physics_engine`.
    Raises PhalanxError for a malformed custom parameter."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    if headless:
        add("--headless", action="store_true", help="no viewer")
    if no_graphics:
        add("--nographics", action="store_true", help="no viewer and no cameras")
    add("--sim_device", default="cuda:0", help="device of the physics: cpu, cuda or cuda:N")
    add("--pipeline", default="gpu", help="device of the tensors: cpu, gpu or cuda")
    add("--graphics_device_id", type=int, default=0, help="device of the cameras")
    engine = parser.add_mutually_exclusive_group()
    engine.add_argument("--flex", action="store_true", help="ask for Flex, which is not provided")
    engine.add_argument("--physx", action="store_true", help="ask for PhysX's interface (default)")
    add("--num_threads", type=int, default=0, help="threads of the physics on the CPU")
    add("--subscenes", type=int, default=0, help="subscenes of PhysX; without effect")
    add("--slices", type=int, help="client threads; default: the number of subscenes")
    for parameter in custom_parameters:
        _add_custom(parser, parameter)

    args = parser.parse_args()
    args.sim_device_type, args.compute_device_id = parse_device_str(args.sim_device)
    args.use_gpu = args.sim_device_type == "cuda"
    args.pipeline = args.pipeline.lower()
    if args.pipeline not in ("cpu", "gpu", "cuda"):
        parser.error(f"--pipeline is {args.pipeline!r}; use cpu, gpu or cuda")
    if args.pipeline != "cpu" and not args.use_gpu:
        print(
            f"The physics runs on {args.sim_device}, so the tensors are there too: --pipeline cpu."
        )
        args.pipeline = "cpu"
    args.use_gpu_pipeline = args.pipeline != "cpu"
    args.physics_engine = SimType.SIM_FLEX if args.flex else SimType.SIM_PHYSX
    if args.slices is None:
        args.slices = args.subscenes
    if no_graphics and args.nographics:
        args.headless = True
    return args


def _add_custom(parser: argparse.ArgumentParser, parameter: Mapping) -> None:
    if "name" not in parameter or not ("type" in parameter or "action" in parameter):
        raise PhalanxError(
            f"gymutil.parse_arguments: the custom parameter {dict(parameter)} needs 'name' and"
            " either 'type' or 'action'"
        )
    options = {key: value for key, value in parameter.items() if key != "name"}
    parser.add_argument(parameter["name"], **options)


_MISSING = object()


def parse_sim_config(config: Any, sim_params: SimParams) -> None:
    """Write the values in `config` into the fields of `sim_params`, nested ones too.

    config: a mapping, or an object with attributes. Gravity is three numbers; enums are given by
    their numbers. None and keys that are no fields are ignored, since programs pass configs with
    other settings too. Raises TypeError for a value of the wrong type."""
    _fill(config, sim_params)


def _vector(value: Any, name: str) -> Vec3:
    """Three numbers as a vector."""
    try:
        x, y, z = value
    except (TypeError, ValueError):
        raise TypeError(f"SimParams.{name} takes three numbers, not {value!r}") from None
    return Vec3(x, y, z)


def _fill(config: Any, params: Struct) -> None:
    for name, kind in params._fields.items():
        if isinstance(config, Mapping):
            value = config.get(name, _MISSING)
        else:
            value = getattr(config, name, _MISSING)
        if value is _MISSING or value is None:
            continue
        if kind is Vec3 and not isinstance(value, Vec3):
            value = _vector(value, name)
        if issubclass(kind, Struct) and not isinstance(value, kind):
            _fill(value, getattr(params, name))
        else:
            setattr(params, name, value)


def _indent_xml(elem: ET.Element, level: int = 0) -> None:
    """Indent an XML element, in place."""
    ET.indent(elem, "\t", level)
