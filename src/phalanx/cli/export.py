"""`phalanx export`: a checkpoint's policy as one file that runs without Phalanx."""

import dataclasses
import shlex
from typing import Any

from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.cli.console import Lines
from phalanx.cli.options import ExportOptions, RunOptions
from phalanx.cli.run_folders import given_checkpoint
from phalanx.rl import Runner


def export_checkpoint(arguments: list[str]) -> None:
    """Write the policy, by default next to its checkpoint, and describe it. Raises PhalanxError if
    it cannot be exported."""
    from phalanx.deploy.describe import describe
    from phalanx.deploy.export import export, place

    console = Lines()
    options = compose_config(arguments, "export")
    assert isinstance(options, ExportOptions)
    checkpoint = given_checkpoint(options, "export")
    place(checkpoint, options.format, options.out)  # before the task is made, which takes longest
    player = make_player(options, num_envs=1)
    path, difference = export(player, checkpoint, options.format, options.out)
    about = describe(player, checkpoint)
    custom = [t.name for t in about.observation.terms if t.quantity == "custom"]
    many = len(about.action.joints)
    joints = f"{many} joint{'s' * (many != 1)}" if many else "actions"
    console.print(
        f"{path}: {about.policy.kind} policy of {about.task}, {about.observation.size} observations"
        f" to {joints} ({about.action.kind}) at {about.control_hz:.4g} Hz; differs from torch by"
        f" {difference:.1e} at most",
    )
    if custom:
        console.print(f"terms that the robot's program must compute: {', '.join(custom)}")
    if options.format == "onnx":
        console.print(f"try it:      phalanx sim2sim {shlex.quote(str(path))}")


def make_player(options: RunOptions, num_envs: int) -> Any:
    """The player for `options`, on the CPU."""
    options = dataclasses.replace(options, num_envs=num_envs, sim_device="cpu", rl_device="cpu")
    runner = Runner()
    runner.load({"params": train_params(resolved(options))})
    return runner.create_player()
