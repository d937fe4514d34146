"""What old client code expects of NumPy, Gym and its own dependencies, for those who ask for it.

    ISAACGYM_COMPAT=1 python train.py task=Ant

`import isaacgym` then calls `activate`, which is in time because clients import isaacgym first.
Without the variable nothing here runs. Nothing that is there is replaced:

- names that NumPy 1.20 to 2.4 removed come back with their old meaning (`np.float`, `np.Inf`);
- `import gym` gives Gymnasium if no gym is installed. That serves clients that take spaces and
  base classes from it; `gym.make`, `step` and `reset` have Gymnasium's returns, not gym's;
- packages that some client imports and no task here needs get a stand-in that can be imported
  and raises when it is called;
- rl_games, if it is installed, again has what programs for its older versions read: an agent's
  `seq_len` (IsaacGymEnvs' AMP), a runner's `load_path` and a run that loads it (gym2real).
"""

import importlib.util
import sys
import types
from typing import Any

import numpy as np

NUMPY: dict[str, Any] = {
    # aliases of Python's types, gone since 1.24
    "float": float, "int": int, "bool": bool, "object": object, "str": str, "complex": complex,
    "long": int, "unicode": str,
    # second names of the same thing, gone since 2.0
    "Inf": np.inf, "Infinity": np.inf, "infty": np.inf, "PINF": np.inf, "NINF": -np.inf,
    "NaN": np.nan, "NAN": np.nan, "PZERO": 0.0, "NZERO": -0.0,
    "float_": np.float64, "complex_": np.complex128, "bool8": np.bool_, "string_": np.bytes_,
    "unicode_": np.str_, "product": np.prod, "cumproduct": np.cumprod, "alltrue": np.all,
    "sometrue": np.any, "round_": np.round, "mat": np.asmatrix,
    # gone since 2.4, or about to be
    "in1d": lambda ar1, ar2, **options: np.isin(np.ravel(ar1), ar2, **options),
    "row_stack": np.vstack, "trapz": getattr(np, "trapezoid", None),
}  # fmt: skip

STAND_INS = {"pysdf": "SDF", "urdfpy": "URDF"}
"""Package -> the name that is imported from it. IsaacGymEnvs imports them for every task and calls
them in its IndustReal tasks alone; today neither can be installed with pip alone."""


def activate() -> None:
    """Add what is missing and say so in one line. A second call finds nothing missing."""
    # vars, not hasattr: NumPy 1.26 warns when it is asked for some of them
    names = [n for n, value in NUMPY.items() if value is not None and n not in vars(np)]
    for name in names:
        setattr(np, name, NUMPY[name])
    done = [f"{len(names)} names back in NumPy"] if names else []
    if not _installed("gym") and _installed("gymnasium"):
        _alias("gymnasium", "gym")
        done.append("gym is Gymnasium")
    missing = [name for name in STAND_INS if not _installed(name)]
    for name in missing:
        sys.modules[name] = module = types.ModuleType(
            name, "Stands in for a package not installed."
        )
        setattr(module, STAND_INS[name], _Absent(name, STAND_INS[name]))
    if missing:
        done.append(f"stand-ins for {' and '.join(missing)}")
    if _installed("rl_games") and _old_rl_games():
        done.append("seq_len and load_path in rl_games")
    if done:
        print(f"isaacgym.compat: {', '.join(done)}")


def _old_rl_games() -> bool:
    """Give rl_games 1.6 what its agents had before 1.6 and its runner in 1.1, unless it has."""
    try:
        from rl_games.common.a2c_common import A2CBase
        from rl_games.torch_runner import Runner
    except ImportError:  # a version that does not run here; whoever needs it will be told
        return False
    if hasattr(A2CBase, "seq_len"):
        return False
    A2CBase.seq_len = property(lambda agent: agent.seq_length)
    Runner.load_path = property(lambda runner: runner.params.get("load_path"))
    run = Runner.run

    def run_from_load_path(self: Any, args: dict[str, Any]) -> None:
        loads = self.params.get("load_checkpoint") and self.load_path
        run(self, {"checkpoint": self.load_path, **args} if loads else args)

    Runner.run = run_from_load_path
    return True


def _installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _alias(name: str, alias: str) -> None:
    """Every module of the package `name` under the name `alias` as well."""
    importlib.import_module(name)
    modules = {k: m for k, m in sys.modules.items() if k == name or k.startswith(f"{name}.")}
    sys.modules.update({alias + k.removeprefix(name): m for k, m in modules.items()})


class _Absent:
    """Can be imported and not used."""

    def __init__(self, package: str, name: str) -> None:
        self._why = (
            f"{package}.{name} is used, but {package} is not installed; ISAACGYM_COMPAT only made"
            " it importable"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(self._why)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ImportError(self._why)
