"""The ring of transitions: what is drawn, n-step returns, priorities; against hand-made numbers."""

import math

import pytest
import torch

from phalanx.errors import PhalanxError
from phalanx.rl.replay import PrioritizedReplay, Replay

CPU = torch.device("cpu")


def replay(steps, n_step=1, gamma=0.5, kind=Replay, **options):
    made = kind(2 * steps, 2, (1,), (), torch.long, CPU, n_step, gamma, **options)
    for rows in made.rows.values():  # what is drawn without having been written shows
        if rows.is_floating_point():
            rows.fill_(math.nan)
    if kind is PrioritizedReplay:
        made.rows["priorities"].zero_()
    return made


def fill(replay, steps, ended=(), terminated=(), first=0):
    """Step t of environment e: observation 10 t + e, reached 10 t + e + 5, reward t + 1 + 100 e.
    `ended`, `terminated`: (t, e) of the steps that are."""
    for t in range(first, first + steps):
        e = torch.arange(2)
        replay.write(obs=(10.0 * t + e)[:, None], actions=t + e)
        replay.write(
            rewards=t + 1 + 100.0 * e,
            next_obs=(10.0 * t + e + 5)[:, None],
            terminated=torch.tensor([(t, k) in terminated for k in range(2)]),
            ended=torch.tensor([(t, k) in {*ended, *terminated} for k in range(2)]),
        )
        replay.advance()
        replay.steps += 1


def test_all_written_transitions_and_no_others_are_sampled():
    r = replay(8)
    fill(r, 3)
    batch = r.sample(500)
    assert set(batch["obs"].flatten().tolist()) == {0, 1, 10, 11, 20, 21}
    assert torch.equal(batch["next_obs"], batch["obs"] + 5)
    assert torch.equal(
        batch["actions"], (batch["obs"][:, 0] // 10 + batch["obs"][:, 0] % 10).long()
    )


def test_the_ring_forgets_the_oldest_step():
    r = replay(3)
    fill(r, 5)
    assert set(r.sample(500)["obs"].flatten().tolist()) == {20, 21, 30, 31, 40, 41}
    assert (int(r.cursor), int(r.size), r.steps) == (2, 3, 5)


def test_n_step_returns_by_hand():
    # gamma 0.5, n 3; environment 0 times out with step 1, environment 1 terminates with step 2.
    r = replay(8, n_step=3)
    fill(r, 5, ended=[(1, 0)], terminated=[(2, 1)])
    step, env = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    batch = r.gather(step, env)
    expected = torch.tensor(
        [
            1 + 0.5 * 2,  # until the time-out with step 1
            2.0,
            3 + 0.5 * 4 + 0.25 * 5,
            101 + 0.5 * 102 + 0.25 * 103,  # terminates with the third
            102 + 0.5 * 103,
            103.0,
        ]
    )
    torch.testing.assert_close(batch["rewards"], expected)
    # The state reached with the last step counted; a time-out's value counts, a termination's not.
    assert batch["next_obs"].flatten().tolist() == [15, 15, 45, 26, 26, 26]
    assert batch["discounts"].tolist() == [0.25, 0.5, 0.125, 0, 0, 0]
    assert batch["obs"].flatten().tolist() == [0, 10, 20, 1, 11, 21]


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
@pytest.mark.parametrize("steps", [3, 4, 7, 9])
def test_n_step_returns_never_reach_past_the_last_written_step(kind, steps):
    options = {"alpha": 1.0} if kind is PrioritizedReplay else {}
    r = replay(4, n_step=3, gamma=1.0, kind=kind, **options)
    fill(r, steps)
    batch = r.sample(400)
    t = batch["obs"][:, 0] // 10
    oldest = max(steps - 4, 0)
    assert set(t.tolist()) == set(range(oldest, steps - 2))
    torch.testing.assert_close(
        batch["rewards"], 3 * (t + 2) + 300 * (batch["obs"][:, 0] % 10)
    )  # t+1, t+2, t+3: consecutive, although the ring has wrapped
    torch.testing.assert_close(batch["next_obs"], batch["obs"] + 25)


def test_episodes_that_begin_outside_of_a_step_end_those_before():
    ring = replay(steps=5, n_step=3)
    fill(ring, 3)
    ring.end_episodes()  # as after a resume whose environment starts again
    fill(ring, 2, first=3)
    found = ring.gather(torch.tensor([1]), torch.tensor([0]))
    assert found["rewards"].tolist() == [2 + 0.5 * 3]
    assert found["next_obs"].tolist() == [[25.0]]
    assert found["discounts"].tolist() == [0.25]  # the old episode did not terminate


def test_a_ring_smaller_than_the_return_is_refused():
    with pytest.raises(
        PhalanxError, match=r"replay_buffer_size 4 holds 2 steps .* set it to 6 or more"
    ):
        replay(2, n_step=3)


def test_priorities_that_became_nan_leave_the_losses_to_say_so():
    r = replay(4, kind=PrioritizedReplay, alpha=1.0)
    fill(r, 3)
    r.update_priorities(torch.tensor([1, 2]), torch.tensor([math.nan, 1.0]))
    assert r.sample(8)["weights"].isnan().all()


BAD_PRIORITIES = {"zero": 0.0, "not finite": float("nan"), "negative": -1.0}


@pytest.mark.parametrize("value", BAD_PRIORITIES)
def test_saved_priorities_that_are_no_priorities_are_refused(value):
    a, b = (replay(4, kind=PrioritizedReplay, alpha=1.0) for _ in range(2))
    fill(a, 3)
    state = a.state_dict()
    state["rows"]["priorities"][1] = BAD_PRIORITIES[value]
    with pytest.raises(PhalanxError, match="not positive numbers; the replay starts empty"):
        b.load_state_dict(state)
    with pytest.raises(PhalanxError, match="not positive numbers"):
        b.load_state_dict({**a.state_dict(), "largest": torch.ones(1)})
    assert b.steps == 0


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
def test_a_restored_ring_draws_the_same(kind):
    options = {"alpha": 0.5} if kind is PrioritizedReplay else {}
    a, b = (replay(4, n_step=2, kind=kind, **options) for _ in range(2))
    fill(a, 6, ended=[(5, 1)])
    if kind is PrioritizedReplay:
        a.update_priorities(torch.tensor([1, 2]), torch.tensor([9.0, -4.0]))
    b.load_state_dict(a.state_dict())
    for r in (a, b):
        fill(r, 2, first=6)
    batches = []
    for r in (a, b):
        torch.manual_seed(0)
        batches.append(r.sample(64))
    for name, value in batches[0].items():
        assert torch.equal(value, batches[1][name]), name
    assert b.steps == 8


@pytest.mark.parametrize("steps", [3, 6])  # before the ring of 4 was full, and after
@pytest.mark.parametrize("now", [2, 8])
def test_a_ring_of_another_size_restores_the_last_steps(steps, now):
    a, b = replay(4), replay(now)
    fill(a, steps)
    b.load_state_dict(a.state_dict())
    kept = min(4, steps, now)
    seen = {10 * t + e for t in range(steps - kept, steps) for e in range(2)}
    assert set(b.sample(500)["obs"].flatten().tolist()) == seen
    fill(b, now - 1, first=steps)
    seen = {10 * t + e for t in range(steps - 1, steps + now - 1) for e in range(2)}
    assert seen <= set(b.sample(1000)["obs"].flatten().tolist())


def test_a_run_may_take_priorities_up_or_drop_them():
    uniform, prioritized = replay(4), replay(4, kind=PrioritizedReplay, alpha=0.5)
    fill(uniform, 6)
    prioritized.load_state_dict(uniform.state_dict())
    batch = prioritized.sample(500)
    assert set(batch["obs"].flatten().tolist()) == {20, 21, 30, 31, 40, 41, 50, 51}
    assert torch.equal(batch["weights"], torch.ones(500))
    prioritized.update_priorities(torch.tensor([1, 2]), torch.tensor([9.0, -4.0]))
    uniform.load_state_dict(prioritized.state_dict())
    assert set(uniform.sample(500)["obs"].flatten().tolist()) == {20, 21, 30, 31, 40, 41, 50, 51}


def test_going_back_writes_the_same_steps_anew():
    r = replay(4)
    fill(r, 6)
    r.rewind(5)
    fill(r, 1, first=5)
    assert (int(r.cursor), int(r.size), r.steps) == (2, 4, 6)
    assert set(r.sample(200)["obs"].flatten().tolist()) == {20, 21, 30, 31, 40, 41, 50, 51}


def test_transitions_are_drawn_in_proportion_to_priority():
    r = replay(4, kind=PrioritizedReplay, alpha=0.5)
    fill(r, 2)
    # |TD error|^0.5: 1, 2, 3, 4, a tenth of each drawn 1, 2, 3, 4 times; stratified, so exactly.
    rows = torch.arange(4)
    r.update_priorities(rows, torch.tensor([1.0, -4.0, 9.0, 16.0]))
    r.beta.fill_(0.5)
    batch = r.sample(10_000)
    counts = torch.bincount(batch["rows"], minlength=4)
    assert (counts - torch.tensor([1000, 2000, 3000, 4000])).abs().max() <= 2
    # (4 P)^-0.5 over the largest, which is that of P = 0.1: sqrt(0.1 / P)
    expected = (0.1 / torch.tensor([0.1, 0.2, 0.3, 0.4])).sqrt()
    torch.testing.assert_close(batch["weights"], expected[batch["rows"]], rtol=1e-4, atol=1e-5)


def test_new_transitions_have_the_largest_priority_so_far():
    r = replay(4, kind=PrioritizedReplay, alpha=1.0)
    fill(r, 1)
    assert r.rows["priorities"][0].tolist() == [1, 1]
    r.update_priorities(torch.tensor([0]), torch.tensor([7.0]))
    fill(r, 1, first=1)
    torch.testing.assert_close(r.rows["priorities"][1], torch.tensor([7.0, 7.0]))
    r.update_priorities(torch.tensor([2]), torch.tensor([3.0]))
    fill(r, 1, first=2)
    torch.testing.assert_close(r.rows["priorities"][2], torch.tensor([7.0, 7.0]))
