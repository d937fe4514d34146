"""Recorded functions compute what torch does, row by row, and say what they cannot."""

import math

import pytest
import torch

from phalanx import tasks
from phalanx.compute.recorded import NotRecordable, Recorded
from phalanx.compute.rows import write_rows

HOOKS = ("post_physics_step", "reset_envs", "compute_observations")
ROWS = 300  # not a multiple of a block
TABLE = torch.linspace(0, 1, 22).view(11, 2)


def all_operations(x, v, k, flag, index, total, moved):
    """Every kind of operation, on (N, 3), (N,), (N,) long, (N,) bool, (N, 1) long; returns results.
    `total` () and `moved` (N, 3) are written in place."""
    w, row = x[:, 0], torch.tensor([0.5, -2.0, 3.0])
    total += x.nan_to_num().sum()
    bounds = torch.stack([total, total.nan_to_num(posinf=2.0), (total / 3).clamp(max=1.0)])
    width = (bounds[1:] - bounds[:-1]).abs()  # of numbers that all rows share
    total += torch.where(bounds[0] > 0, width[0] * 0.5, -1.0)
    moved[:, 1:].mul_(2).add_(v[:, None]).sub_(1.0)
    moved.masked_fill_(flag[:, None], 7.0)
    write_rows(moved, v > 1, row)
    chosen = torch.tensor([2, -3])
    return {
        "sums": torch.stack([x.sum(1), x.mean(1), x.square().sum(1), x.norm(dim=-1)]),
        "bounds": torch.cat([x.clamp(-1, 1), x.clamp(min=0), v.clamp(max=0.5)[:, None]], 1),
        "least": torch.stack([torch.minimum(w, v), torch.maximum(w, v), x.abs()[:, 2]], 1),
        "angles": torch.stack([w.sin(), w.cos(), torch.atan2(w, v), torch.remainder(w, math.pi)]),
        "powers": torch.stack(
            [w.exp(), w.abs().sqrt(), w.abs().log1p(), w**2, 1 - w, -w, w.sign()]
        ),
        "choices": torch.where(flag[:, None] & (x > 0), x, v[:, None] / row),
        "compared": torch.stack([(x < 0).any(1), (x == x).all(1), ~flag, (w >= v) | flag]),
        "counts": (k + 1) * flag + (x > 0).sum(1),
        "by index": x[:, chosen],
        "gathered": x.gather(1, index),
        "from a table": TABLE[(k % 11)[:, None] - index],
        "from other rows": moved[(k * 7) % ROWS],
        "products": (x[:, None] @ (x[:, :, None] * row))[:, 0] + (x @ row)[:, None],
        "crossed": torch.linalg.cross(x, row.expand_as(x)),
        "with shared numbers": v[:, None] * width + bounds[2],
        "with the total": v * total + x[:, 1:2].expand(-1, 2).sum(1),
        "moved": moved * 1,
        "empty": x[:, :0].any(1),
    }


def test_every_operation_gives_what_torch_gives_also_for_nan_and_in_later_calls():
    x, v, moved = torch.randn(ROWS, 3), torch.randn(ROWS), torch.zeros(ROWS, 3)
    k, flag, index = torch.arange(ROWS), torch.rand(ROWS) > 0.5, torch.randint(3, (ROWS, 1))
    total, results = torch.zeros(()), {}
    state = (total, moved)

    def function():
        results.update(all_operations(x, v, k, flag, index, *state))

    recorded = Recorded(function, ROWS, threads=2)
    for _ in range(2):
        for values in (x, v):
            values.copy_(torch.randn_like(values))
        x[5, 1] = v[7] = torch.nan
        flag.copy_(torch.rand(ROWS) > 0.5)
        index.copy_(torch.randint(3, (ROWS, 1)))
        own = [s.clone() for s in state]
        expected = all_operations(x, v, k, flag, index, *own)
        for result in results.values():  # a result that is not written shows
            result.fill_(1)
        recorded()
        for name, result in results.items():
            torch.testing.assert_close(result, expected[name], equal_nan=True, msg=name)
        torch.testing.assert_close(state, tuple(own), equal_nan=True)


def test_rows_that_need_other_rows_wait_for_them():
    def function(x, v):
        y, z = x * 2, x + 1
        z -= z[0].clone()
        two = torch.cat([x[:, 0], v]).view(ROWS, 2) * 2
        columns = torch.stack([x[:, 0] * 2, v + 1])
        shifted = torch.zeros(ROWS + 1)
        shifted[1:] = v + 1
        sums = (y[5] + y).sum(1)
        return (
            v[:, None] + y[0],
            y[-1] * v[:, None],
            z,
            two,
            columns.view(ROWS, 2) * 2,
            (
                shifted[:-1] * 2,
                columns[1] + sums,
            ),
        )

    def inputs():
        return torch.randn(ROWS, 3), torch.randn(ROWS)

    recorded = Recorded(function, ROWS, 2, *inputs())
    for _ in range(3):
        x, v = inputs()
        torch.testing.assert_close(recorded(x, v), function(x, v))


def test_what_depends_on_values_is_refused_and_random_numbers_are_drawn_in_every_call():
    x = torch.zeros(ROWS)
    with pytest.raises(NotRecordable, match="depend on values"):
        Recorded(lambda: x.add_(1) if x.sum() > 0 else None, ROWS, 1)
    with pytest.raises(NotRecordable, match="depend on values"):
        Recorded(lambda: x[x > 0], ROWS, 1)
    Recorded(lambda: None, ROWS, 1)()
    recorded = Recorded(lambda: x.copy_(torch.rand(ROWS) + 1), ROWS, 1)
    torch.manual_seed(3)
    recorded()
    torch.manual_seed(3)
    torch.testing.assert_close(x, torch.rand(ROWS) + 1)


def test_writes_show_in_the_versions_of_tensors():
    x = torch.zeros(ROWS)
    recorded = Recorded(lambda: x.add_(1), ROWS, 1)
    before = x._version
    recorded()
    assert x._version > before
    assert (x == 2).all()


def steps(task, actions):
    """What each step gives, and the log."""
    seen = []
    for action in actions:
        obs, reward, terminated, truncated, infos = task.step(action)
        log = {f"log.{k}": v for k, v in task.terms.state_dict().items()}
        values = {**obs, **infos["terminal"], "reward": reward, **task._state, **log}
        flags = {"terminated": terminated, "truncated": truncated}
        seen.append({k: v.clone() for k, v in {**values, **flags}.items()})
    return seen


def flat(state):
    """The tensors of a state, by their places in it."""
    inner = {k: flat(v) if isinstance(v, dict) else {"": v} for k, v in state.items()}
    found = {f"{k}.{rest}": v for k, values in inner.items() for rest, v in values.items()}
    return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}


@pytest.mark.parametrize("name", ["Ant", "Go2Velocity", "HumanoidAMP", "Go1VelocityMjlab"])
def test_a_recorded_task_steps_as_it_does_without(name):
    def made():
        torch.manual_seed(0)
        task = tasks.make(name, num_envs=ROWS, device="cpu", episode_length=4)
        task.reset()
        return task

    plain, recorded = made(), made()
    before = recorded.state_dict()
    recorded.compile_on_cpu(pytest.fail)
    assert all(isinstance(getattr(recorded, hook), Recorded) for hook in HOOKS)
    after = flat(recorded.state_dict())
    for key, value in flat(before).items():
        torch.testing.assert_close(after[key], value, rtol=0, atol=0, msg=key)
    actions = torch.rand(9, ROWS, plain.num_actions) * 2 - 1
    torch.manual_seed(1)
    expected = steps(plain, actions)
    torch.manual_seed(1)
    for t, (step, right) in enumerate(zip(steps(recorded, actions), expected, strict=True)):
        for key, value in step.items():
            # Ant's progress is the difference of distances of 1000 m, in float32, over 1/60 s.
            near = 0.005 if key in ("reward", "rew_buf") else 1e-3
            off = ~torch.isclose(value.float(), right[key].float(), rtol=1e-3, atol=near)
            # Last digits of a start may grow where a foot just touches the ground.
            assert off.float().mean() < 0.01, f"{key} in step {t}"
