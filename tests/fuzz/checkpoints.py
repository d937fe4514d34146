"""Checkpoints of every algorithm: what is refused leaves the agent as it was, to the bit."""

import contextlib
import copy
import io
import zipfile
from unittest import mock

import numpy as np
import torch

import orbit
from fuzz import mutate
from fuzz.motions import MALICE, Malice
from phalanx.cli.config import compose_config, resolved, train_params
from phalanx.errors import PhalanxError
from phalanx.rl import Runner, checkpoint

SMALL = ["num_envs=4", "sim_device=cpu", "train.params.config.max_epochs=100000"]
CONFIG = "train.params.config."
PPO = [
    f"{CONFIG}horizon_length=8",
    f"{CONFIG}minibatch_size=16",
    "train.params.network.mlp.units=[8]",
]
REPLAY = [f"{CONFIG}save_replay_buffer=true", f"{CONFIG}replay_buffer_size=200"]
REPLAY += [f"{CONFIG}num_warmup_frames=40", f"{CONFIG}batch_size=16", f"{CONFIG}max_epochs=1000"]
PRIORITIZED = f"{CONFIG}replay_buffer_type=prioritized"
LATENCY = "task.randomization_params.latency={actions: [0, 2]}"


class Checkpoint:
    """One agent, which restores broken copies of its own checkpoint."""

    arguments: tuple[str, ...]

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.file = folder / "a.pth"
        runner = Runner()
        runner.load({"params": self.params(folder)})
        self.agent = runner.algo_factory.create(
            runner.algo_name, base_name="run", params=runner.params
        )
        run = self.agent.run
        self.agent.reset(self.agent.hooked_env)
        for _ in range(3):
            self.iterate()
        run.journal.meters.rewards.add([6.0], [2.0])
        buffer = io.BytesIO()
        torch.save(self.agent.get_full_state_weights(), buffer)
        self.good = buffer.getvalue()
        self.content = torch.load(io.BytesIO(self.good), weights_only=True)
        self.file.write_bytes(self.good)
        self.loaded = checkpoint.load(self.file)
        self.player = runner.create_player()  # which draws weights
        self.before, self.changed = self.state(), False

    def params(self, folder):
        options = resolved(compose_config([*self.arguments, *SMALL, f"train_dir={folder}"]))
        return train_params(options)

    def iterate(self):
        run = self.agent.run
        run.epoch_num += 1
        run.iterate(lambda: None)
        run.frame += self.agent.batch_size

    def state(self):
        """All that a checkpoint would hold, to the bit, as texts and bytes by place."""
        return dict(_flat(self.agent.get_full_state_weights()))

    def case(self, rng):
        way = rng.randrange(8)
        if way == 0:
            return mutate.of_bytes(rng, self.good)
        if way < 3:
            return of_zip(rng, self.good)
        if rng.randrange(30) == 0:
            state = {**self.content, "evil": Malice(rng.choice(MALICE))}
        else:
            state = mutate.of_structure(rng, self.content, change)
        buffer = io.BytesIO()
        try:
            torch.save(state, buffer)
        except Exception:
            return b""
        return buffer.getvalue()

    def __call__(self, data):
        if self.changed:
            with read_as(self.loaded):
                self.agent.restore(self.file)
            self.before, self.changed = self.state(), False
        self.file.write_bytes(data)
        state = checkpoint.load(self.file)
        with read_as(state), contextlib.suppress(PhalanxError):
            self.player.restore(self.file)
        try:
            with read_as(state):
                self.agent.restore(self.file)
        except PhalanxError:
            assert self.state() == self.before, "refused, but something has been set"
            raise
        self.changed = True
        run, agent = self.agent.run, self.agent
        assert 0 <= run.epoch_num < 2**53, run.epoch_num
        assert 0 <= run.frame < 2**53, run.frame
        assert run.saving.best < float("inf"), run.saving.best
        assert run.journal.total_time >= 0, run.journal.total_time
        if not run.episodes_restored:
            agent.reset(agent.hooked_env)
        self.iterate()
        values = agent.statistics()
        if not all(v.isfinite().all() for v in values.values()):
            raise PhalanxError("the losses became NaN, as a run would say")


def read_as(state):
    """Inside, all checkpoints hold a copy of `state`: reading takes longer than all the rest."""
    return mock.patch.object(checkpoint, "load", side_effect=lambda _: copy.deepcopy(state))


def _flat(value, place=""):
    """(place, kind, content) of everything in nested dictionaries and lists."""
    if isinstance(value, dict):
        yield place, ("dict", tuple(value))
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}")
    elif isinstance(value, (list, tuple)):
        yield place, (type(value), len(value))
        for at, item in enumerate(value):
            yield from _flat(item, f"{place}[{at}]")
    elif isinstance(value, torch.Tensor):
        content = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        yield place, (value.dtype, value.shape, content)
    else:
        yield place, (type(value), repr(value))


def change(rng, old):
    """Like `mutate.values`, also for tensors."""
    if not isinstance(old, torch.Tensor) or rng.randrange(4) == 0:
        new = mutate.values(rng, old if not isinstance(old, torch.Tensor) else 0.5)
        return torch.tensor(np.ascontiguousarray(new)) if isinstance(new, np.ndarray) else new
    match rng.randrange(9):
        case 0 if old.numel() and old.is_floating_point():
            new = old.clone()
            new.view(-1)[rng.randrange(old.numel())] = rng.choice((np.nan, np.inf, -1e30, -1.0))
            return new
        case 1 if old.numel() and not old.is_floating_point() and old.dtype != torch.bool:
            new = old.clone()
            new.view(-1)[rng.randrange(old.numel())] = rng.choice((0, 1, 5, 127))
            return new if old.dtype == torch.uint8 else -new
        case 2:
            return old.to(rng.choice((torch.float64, torch.int64, torch.float16, torch.bool)))
        case 3:
            return old.reshape(-1)
        case 4:
            return old[..., None]
        case 5 if old.dim():
            return old[: rng.randrange(len(old) + 1)].clone()
        case 6 if old.dim():
            return torch.cat([old, old])
        case 7:
            return torch.zeros(rng.choice(((), (0,), (1,), (3, 3), (1, 1, 1))), dtype=old.dtype)
        case _:
            return old.flip(0) if old.dim() else -old


def of_zip(rng, data):
    """Changes of the pickle in the archive, or of the archive."""
    parts = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            parts[member.filename] = archive.read(member)
    name = next(n for n in parts if n.endswith("data.pkl"))
    ways = {name: zipfile.ZIP_STORED}
    match rng.randrange(8):
        case 0:
            del parts[rng.choice(list(parts))]
        case 1:
            other = rng.choice(list(parts))
            parts[other] = mutate.of_bytes(rng, parts[other])
        case 2:
            ways[rng.choice(list(parts))] = zipfile.ZIP_DEFLATED
        case 3:
            ways["x/data/0"] = zipfile.ZIP_DEFLATED
            parts["x/data/0"] = bytes(2**22)
        case _:
            parts[name] = mutate.of_pickle(rng, parts[name])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, content in parts.items():
            archive.writestr(key, content, ways.get(key, zipfile.ZIP_STORED))
    return buffer.getvalue()


class OfPPO(Checkpoint):
    arguments = ("task=Cartpole", *PPO)


class OfLSTM(Checkpoint):
    arguments = ("task=Cartpole", "train=CartpoleLSTM", f"{CONFIG}minibatch_size_per_env=8")


class OfSAC(Checkpoint):
    arguments = ("task=Cartpole", "train=CartpoleSAC", *REPLAY)


class OfDQN(Checkpoint):
    arguments = ("task=Cartpole", "train=CartpoleDQN", *REPLAY, PRIORITIZED)


class OfRandomizedAnt(Checkpoint):
    arguments = ("task=Ant", "task.randomize=true", LATENCY, *PPO)


class OfAMP(Checkpoint):
    def params(self, folder):
        changes = {"num_actors": 8, "minibatch_size": 32, "amp_minibatch_size": 16}
        changes |= {"amp_replay_buffer_size": 100, "amp_obs_demo_buffer_size": 100}
        return orbit.params(folder, max_epochs=100_000, save_replay_buffer=True, **changes)
