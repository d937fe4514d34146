"""Mappings into typed dataclasses, and the command line's key=value arguments."""

import dataclasses
import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

import phalanx
from phalanx import tasks
from phalanx.cli.config import as_settings, compose_config, train_params
from phalanx.config import metadata_of, ranged, read, without_effect
from phalanx.errors import PhalanxError


@dataclass(frozen=True)
class Inner:
    scale: float = ranged(1.0, above=0)
    offset: float | None = None

    NO_EFFECT: ClassVar[frozenset[str]] = frozenset({"old"})


@dataclass(frozen=True)
class Config:
    name: str
    steps: int = ranged(16, at_least=1, at_most=100)
    rate: float = ranged(3e-4, above=0)
    weight: float | None = None
    clip: bool = True
    mode: Literal["fast", "exact"] = "fast"
    bootstrap: Literal["reached"] | bool = "reached"
    units: tuple[int, ...] = ranged((8,), at_least=1)
    pair: tuple[float, float] = (0.0, 1.0)
    inner: Inner = Inner()
    maybe: Inner | None = None
    either: Inner | tuple[int, ...] | None = None
    free: dict[str, Any] = field(default_factory=dict)


def given(**values: Any) -> Config:
    return read(Config, {"name": "x", **values}, "params")


@pytest.mark.parametrize(
    ("key", "value", "taken"),
    [
        ("steps", 7, 7),
        ("steps", "7", 7),
        ("steps", 7.0, 7),
        ("steps", "1e2", 100),
        ("rate", "5e-5", 5e-5),  # what PyYAML makes of 5e-5, without a dot, is a string
        ("rate", yaml.safe_load("5e-5"), 5e-5),
        ("rate", 1, 1.0),
        ("weight", None, None),
        ("weight", "None", None),
        ("weight", "0.5", 0.5),
        ("clip", "True", True),
        ("clip", "false", False),
        ("mode", "exact", "exact"),
        ("bootstrap", "reached", "reached"),
        ("bootstrap", True, True),
        ("bootstrap", "false", False),
        ("units", [32, "16"], (32, 16)),
        ("units", [], ()),
        ("inner", {"scale": "2"}, Inner(2.0)),
        ("maybe", None, None),
        ("maybe", {"offset": 3}, Inner(1.0, 3.0)),
        ("free", {"a": [1]}, {"a": [1]}),
    ],
)
def test_value_takes_the_type_of_its_field(key, value, taken):
    result = getattr(given(**{key: value}), key)
    assert result == taken
    assert type(result) is type(taken)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", 3, "params.name is 3; it must be a text"),
        ("name", None, "params.name is empty; it must be a text"),
        ("steps", "many", "params.steps is 'many'; it must be a whole number"),
        ("steps", 1.5, "params.steps is 1.5; it must be a whole number"),
        ("steps", True, "params.steps is True; it must be a whole number"),
        ("steps", float("nan"), "params.steps is nan; it must be a whole number"),
        ("steps", "inf", "params.steps is inf; it must be a whole number"),
        ("steps", None, "params.steps is empty; it must be a whole number"),
        ("steps", 0, "params.steps is 0; it must be at least 1 and at most 100"),
        ("steps", 101, "params.steps is 101; it must be at least 1 and at most 100"),
        ("rate", 0, "params.rate is 0.0; it must be above 0"),
        ("rate", float("nan"), "params.rate is nan; it must be above 0"),
        ("rate", [1], "params.rate is [1]; it must be a number"),
        ("weight", "heavy", "params.weight is 'heavy'; it must be a number"),
        ("clip", 1, "params.clip is 1; it must be true or false"),
        ("mode", "slow", "params.mode is 'slow'; it must be 'fast' or 'exact'"),
        ("bootstrap", "maybe", "is 'maybe'; it must be 'reached' or true or false"),
        ("bootstrap", 1, "params.bootstrap is 1; it must be 'reached' or true or false"),
        ("units", 3, "params.units is 3; it must be a list"),
        ("units", "32", "params.units is '32'; it must be a list"),
        ("units", [8, "x"], "params.units[1] is 'x'; it must be a whole number"),
        ("pair", [1, 2, 3], "params.pair is [1, 2, 3]; it must be a list of 2 values"),
        ("units", [8, 0], "params.units[1] is 0; it must be at least 1"),
        ("inner", 3, "params.inner is 3; it must be a mapping of keys to values"),
        ("inner", {"scale": -1}, "params.inner.scale is -1.0; it must be above 0"),
        ("inner", {"scal": 1}, "unknown key params.inner.scal; did you mean 'scale'?"),
        ("maybe", {"scal": 1}, "unknown key params.maybe.scal; did you mean 'scale'?"),
        ("maybe", {"scale": "big"}, "params.maybe.scale is 'big'; it must be a number"),
        ("maybe", 3, "params.maybe is 3; it must be a mapping of keys to values"),
        ("either", {"scale": "big"}, "params.either.scale is 'big'; it must be a number"),
        ("either", "x", "params.either is 'x'; it must be a mapping of keys to values or a list"),
        ("either", [1, "x"], "params.either[1] is 'x'; it must be a whole number"),
        ("free", 3, "params.free is 3; it must be a mapping"),
        ("stepps", 3, "unknown key params.stepps; did you mean 'steps'?"),
        ("qqqq", 3, "unknown key params.qqqq; accepted: bootstrap, clip, either, free, inner"),
        (7, 3, "unknown key params.7; accepted: "),
    ],
)
def test_wrong_value_is_named_with_what_is_accepted(key, value, words):
    with pytest.raises(PhalanxError) as caught:
        read(Config, {"name": "x", key: value}, "params")
    assert words in str(caught.value)


def test_missing_key_is_named():
    with pytest.raises(PhalanxError, match=r"the key params\.name is missing and has no default"):
        read(Config, {}, "params")


ENDLESS = """
max_epochs max_frames max_steps save_best_after save_frequency epochs_between_resets
num_warmup_steps num_warmup_frames policy_frequency epsilon_decay_frames beta_decay_frames
grow_steps
max_iterations games games_num seeds video_every report_every grace interval_steps start_after
initial_delay
""".split()
"""Limits of a run and counts of iterations: more of them only last longer."""
OTHERS = (
    "phalanx.deploy",
    "phalanx.spaces",
    "phalanx.layout",
    "phalanx.sim.engines",
    "phalanx.cli.study",
)


def classes_of_settings():
    """Every dataclass of the modules that declare ranges."""
    root = Path(phalanx.__file__).parent
    files = [f for f in root.rglob("*.py") if "ranged(" in f.read_text() and f.stem != "config"]
    for file in [*files, root / "rl/config.py", *root.glob("tasks/*.py")]:
        parts = file.relative_to(root.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for cls in vars(module).values():
            # A policy's metadata are checked against its network; tasks make layouts and spaces;
            # engines make structures.
            if getattr(cls, "__module__", "").startswith(OTHERS):
                continue
            if hasattr(cls, "__dataclass_params__"):
                yield cls


def test_every_whole_number_has_a_largest_value():
    """10^10 updates per step, units or substeps would wait for ever or fill the memory."""
    checked = 0
    for cls in set(classes_of_settings()):
        for f in dataclasses.fields(cls):
            hint = str(f.type)
            if not re.search(r"\bint\b", hint) or not f.init or f.name in ENDLESS:
                continue
            assert "at_most" in metadata_of(cls, f.name), f"{cls.__qualname__}.{f.name}"
            checked += 1
    assert checked > 60


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=lambda: Inner(scale=5.0, offset=2.0))
    deep: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outermost:
    outer: Outer = field(default_factory=lambda: Outer(inner=Inner(scale=7.0, offset=3.0)))


def test_a_part_given_in_part_keeps_what_the_whole_says_of_the_rest():
    assert read(Outer, {"inner": {"offset": 1}}, "").inner == Inner(5.0, 1.0)
    assert read(Outer, {"inner": {}}, "").inner == Inner(5.0, 2.0)
    assert read(Outermost, {"outer": {"inner": {"scale": 1}}}, "").outer.inner == Inner(1.0, 3.0)
    with pytest.raises(PhalanxError, match=r"inner\.scale is -1.0; it must be above 0"):
        read(Outer, {"inner": {"scale": -1}}, "")
    with pytest.raises(PhalanxError, match=r"unknown key inner\.scal; did you mean 'scale'"):
        read(Outer, {"inner": {"scal": 1}}, "")
    assert read(Config, {"name": "x", "maybe": {"scale": 2}}, "").maybe == Inner(2.0)


def test_every_source_of_a_task_s_settings_gives_only_what_it_says():
    """Go1Velocity's YAML has contact -3, where Weights has -1."""
    given = ["train.params.config.env_config={rewards: {slip: -0.7}}", "task.env.rewards.torque=-1"]
    weights = compose_config(["task=Go1Velocity", *given]).task.config.rewards
    assert (weights.contact, weights.slip, weights.torque, weights.power) == (-3, -0.7, -1, -1e-3)
    first = tasks.config_of("Go1Velocity", {"rewards": {"slip": -0.7}})
    made = tasks.config_of("Go1Velocity", {"rewards": {"slip": -0.7}}, {"rewards": {"torque": -1}})
    assert made.rewards == weights
    assert tasks.make(
        "Go1Velocity", 1, "cpu", engine="mujoco", config=first, rewards={"torque": -1}
    ).config == dataclasses.replace(made, num_envs=1)


def test_a_mistake_on_the_command_line_is_not_the_file_s():
    """Go1Velocity's YAML has weights of its own, in which an override is put."""
    with pytest.raises(PhalanxError) as error:
        compose_config(["task=Go1Velocity", "task.env.rewards.contakt=1"])
    assert str(error.value) == "unknown key task.env.rewards.contakt; did you mean 'contact'?"


def test_a_subclass_that_changes_a_default_keeps_the_range():
    @dataclass(frozen=True)
    class Longer(Config):
        steps: int = 50

    assert read(Longer, {"name": "x"}, "params").steps == 50
    with pytest.raises(PhalanxError, match=r"steps is 101; it must be at least 1 and at most 100"):
        read(Longer, {"name": "x", "steps": 101}, "params")


def test_keys_without_effect_are_left_out():
    assert read(Config, {"name": "x", "print_stats": 1}, "params", {"print_stats"}) == given()
    old = {"inner": {"old": 1}, "maybe": {"scale": 2, "old": 1}}
    assert given(**old) == given(maybe={"scale": 2})
    assert without_effect(Config, {"name": "x", **old}) == ["inner.old", "maybe.old"]


def test_whole_numbers_keep_all_their_digits():
    @dataclass(frozen=True)
    class Seed:
        seed: int

    assert read(Seed, {"seed": str(2**60 + 1)}, "").seed == 2**60 + 1


def test_long_values_are_shortened():
    with pytest.raises(PhalanxError) as caught:
        given(steps="9" * 1000 + "x")
    assert len(str(caught.value)) < 150


# the command line ---------------------------------------------------------------------------------


def test_defaults_are_cartpole_with_its_train_config():
    config = compose_config([])
    assert (config.task.name, config.seed, config.num_envs) == ("Cartpole", 42, None)
    assert train_params(config)["algo"] == {"name": "a2c_continuous"}


def test_overrides_reach_task_and_trainer():
    arguments = ["task.env.reach=2.5", "num_envs=8", "max_iterations=9"]
    arguments += ["train.params.config.e_clip=0.1", "train.params.network.mlp.units=[4,4]"]
    params = train_params(compose_config(arguments))
    inner = params["config"]
    assert (inner["env_config"]["config"].reach, inner["e_clip"]) == (2.5, 0.1)
    assert (inner["num_actors"], inner["max_epochs"]) == (8, 9)
    played = train_params(compose_config(["games=5"], "play"))
    assert played["config"]["player"]["games_num"] == 5
    assert params["network"]["mlp"]["units"] == [4, 4]


def test_last_of_repeated_keys_counts():
    assert compose_config(["seed=1", "seed=2"]).seed == 2


def test_task_given_on_the_command_line_outweighs_the_train_config():
    discrete = compose_config(["train=CartpoleDiscretePPO"])
    assert discrete.task.config.discrete_actions == 10
    fewer = compose_config(["train=CartpoleDiscretePPO", "task.env.discrete_actions=5"])
    assert train_params(fewer)["config"]["env_config"]["config"].discrete_actions == 5


@pytest.mark.parametrize("text", ["runs/a (b)=c, d.pth", "it's.pth", "007", "1e5", "[x].pth"])
def test_paths_are_taken_as_they_are_typed(text):
    config = compose_config([f"checkpoint={text}", f"train_dir={text}", f"experiment={text}"])
    assert (config.checkpoint, config.train_dir, config.experiment) == (text, text, text)


@pytest.mark.parametrize("text", ["null", "None"])
def test_checkpoint_can_be_null(text):
    assert not compose_config([f"checkpoint={text}"]).checkpoint


ISAACGYMENVS = """
params:
  seed: ${...seed}
  algo: {name: a2c_continuous}
  model: {name: continuous_a2c_logstd}
  network: {name: actor_critic, mlp: {units: [8]}, space: {continuous: {}}}
  load_checkpoint: ${if:${...checkpoint},True,False}
  load_path: ${...checkpoint}
  config:
    name: ${resolve_default:Cartpole,${....experiment}}
    full_experiment_name: ${.name}
    env_name: rlgpu
    multi_gpu: ${....multi_gpu}
    num_actors: ${....task.env.numEnvs}
    max_epochs: ${resolve_default:100,${....max_iterations}}
    gamma: 0.98
"""


def test_train_configs_of_isaacgymenvs_are_taken_with_their_interpolations(tmp_path, monkeypatch):
    for name in ("tasks/own/own.py", "cfg/train/Theirs.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / "tasks/own/own.py").write_text("class Own: pass")
    (tmp_path / "cfg/train/Theirs.yaml").write_text(ISAACGYMENVS)
    monkeypatch.chdir(tmp_path)
    params = train_params(compose_config(["train=Theirs", "seed=3", "num_envs=8"]))
    inner = params["config"]
    assert (params["seed"], inner["num_actors"], inner["max_epochs"]) == (3, 8, 100)
    assert (inner["multi_gpu"], inner["gamma"], inner["name"]) == (False, 0.98, "Cartpole")
    longer = train_params(compose_config(["train=Theirs", "max_iterations=7"]))
    assert longer["config"]["max_epochs"] == 7


def run_folder(tmp_path, clean=False, **settings):
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "last_Cartpole.pth").touch()
    saved = {"task": {"name": "Cartpole", "env": {"reach": 1.5}}, "seed": 7, "num_envs": 24}
    saved["train"] = {"params": {"algo": {"name": "a2c_discrete"}, "network": {}, "config": {}}}
    settings = settings if clean else saved | settings
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.mark.parametrize("place", ["", "nn/last_Cartpole.pth"])
def test_checkpoint_brings_the_settings_of_its_run(tmp_path, place):
    checkpoint = run_folder(tmp_path, train_dir="elsewhere", games=3) / place
    arguments = [f"checkpoint={checkpoint}", "task=Cartpole", "task.env.max_force=9"]
    config = compose_config(arguments)
    assert (config.seed, config.num_envs, config.train_dir) == (7, 24, "runs")
    assert config.train.params.algo == {"name": "a2c_discrete"}
    assert (config.task.config.reach, config.task.config.max_force) == (1.5, 9)
    given = ["seed=1", "task.env.reach=2", "train=CartpolePPO"]
    config = compose_config([*given, *arguments])
    assert (config.seed, config.num_envs, config.task.config.reach) == (1, 24, 2)
    assert config.train.params.algo == {"name": "a2c_continuous"}
    config = compose_config(arguments, "play")
    assert (config.seed, config.num_envs) == (42, None)
    assert config.train.params.algo == {"name": "a2c_discrete"}


def test_settings_of_other_programs_are_left_alone(tmp_path):
    # IsaacGymEnvs writes a config.yaml with `task` and `train`, too.
    checkpoint = run_folder(tmp_path, physics_engine="physx")
    assert compose_config([f"checkpoint={checkpoint}"]).num_envs is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(num_envz=3), "unknown key num_envz; did you mean 'num_envs'"),
        (lambda s: s.pop("train"), "the key train is missing"),
        (lambda s: s.pop("task"), "the key task is missing"),
        (lambda s: s["task"].pop("name"), r"the key task\.name is missing"),
        (lambda s: s["task"].update(name="Ants"), "unknown task 'Ants'"),
        (lambda s: s["task"].update(envs={}), r"unknown key task\.envs"),
        (lambda s: s["task"]["env"].update(reech=1), r"unknown key task\.env\.reech"),
        (lambda s: s.update(seed="a"), "seed is 'a'"),
        (lambda s: s["train"]["params"].update(configs={}), r"unknown key train\.params\.configs"),
        (lambda s: s["train"]["params"]["config"].update(gama=1), "did you mean 'gamma'"),
        (lambda s: s["train"]["params"]["network"].update(mpl=1), "did you mean 'mlp'"),
    ],
)
def test_mistakes_in_the_settings_of_a_run_name_file_and_key(tmp_path, change, words):
    saved = as_settings(compose_config(["task=Cartpole"]))
    change(saved)
    checkpoint = f"checkpoint={run_folder(tmp_path, clean=True, **saved)}"
    (tmp_path / "result.json").touch()
    for command in ("train", "play"):
        with pytest.raises(PhalanxError, match=rf"^{tmp_path}/config\.yaml: [^\n]*{words}"):
            compose_config([checkpoint, "seed=3"], command)


def test_settings_that_a_run_lacks_are_named(tmp_path, caplog):
    compose_config([f"checkpoint={run_folder(tmp_path)}", "task.env.dt=0.02"])
    assert "config.yaml has no max_iterations, " in caplog.text
    assert "task.env.max_force" in caplog.text
    assert "task.env.reach" not in caplog.text


def test_an_old_run_keeps_its_ground_of_ramps_and_nested_settings_it_lacks_are_named(
    tmp_path, caplog
):
    saved = as_settings(compose_config(["task=Go2Velocity", "task.env.terrain=rough"]))
    del saved["task"]["env"]["terrain_settings"]["sharp_edges"]
    del saved["task"]["env"]["commands"]["heading"]
    checkpoint = f"checkpoint={run_folder(tmp_path, clean=True, **saved)}"
    for more, sharp in (([], False), (["task.env.terrain_settings.sharp_edges=true"], True)):
        for command in ("train", "play", "export"):
            options = compose_config([checkpoint, *more], command)
            assert options.task.config.terrain_settings.sharp_edges == sharp
    assert "has no task.env.commands.heading; defaults take their place" in caplog.text


def test_mistakes_in_a_train_config_name_its_file_and_those_of_the_command_line_do_not(
    tmp_path, monkeypatch
):
    for name in ("tasks/own/own.py", "cfg/train/Mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / "tasks/own/own.py").write_text("class Own: pass")
    file = tmp_path / "cfg/train/Mine.yaml"
    file.write_text(ISAACGYMENVS.replace("gamma:", "gama:"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhalanxError, match=rf"^{file}: unknown key params\.config\.gama"):
        compose_config(["train=Mine"])
    file.write_text(ISAACGYMENVS)
    with pytest.raises(PhalanxError, match=r"^unknown key params\.config\.gama"):
        compose_config(["train=Mine", "train.params.config.gama=1"])


def test_unreadable_settings_are_named(tmp_path):
    folder = run_folder(tmp_path)
    (folder / "config.yaml").write_text("task: [")
    with pytest.raises(PhalanxError, match=r"settings of the run in .*config\.yaml") as caught:
        compose_config([f"checkpoint={folder}"])
    assert "\n" not in str(caught.value)
