"""Layouts of observations and actions: what tasks say of their vectors is true of them."""

import pytest

from phalanx import tasks
from phalanx.errors import PhalanxError
from phalanx.layout import ActionLayout, Term, sizes_add_up


@pytest.mark.parametrize("name", tasks.TASKS)
def test_terms_have_names_of_their_own_and_sizes_that_add_up(name):
    task = tasks.make(name, num_envs=1, device="cpu")
    terms = task.observation_layout()
    sizes_add_up(terms, task.num_obs, name)
    assert all(len(t.scale) == len(t.offset) == t.size for t in terms)
    with pytest.raises(PhalanxError, match=f"{name}.observation_layout.. describes {task.num_obs}"):
        sizes_add_up(terms, task.num_obs + 1, name)
    with pytest.raises(PhalanxError, match="has two terms"):
        sizes_add_up([*terms, terms[0]], task.num_obs + terms[0].size, name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "joint_pso"), "did you mean 'joint_pos'"),
        (("joint_pos",), "must name its elements"),
        (("base_ang_vel", "", ("w",)), "base_ang_vel has no element 'w', only x, y, z"),
        (("force", "", ("a", "b"), 3), "has 2 elements, but size 3"),
        (("force", "", ("a", "b"), 0, "N", (1.0, 2.0, 3.0)), "has 3 numbers; it needs 1 or 2"),
    ],
)
def test_wrong_term_is_named(arguments, words):
    with pytest.raises(PhalanxError, match=words):
        Term(*arguments)


def test_wrong_action_layout_is_named():
    with pytest.raises(PhalanxError, match="did you mean 'position'"):
        ActionLayout("positon", ("a",))
    with pytest.raises(PhalanxError, match="'effort' has 0 joints"):
        ActionLayout("effort")
    with pytest.raises(PhalanxError, match="low has 2 numbers; it needs 1 or 3"):
        ActionLayout("effort", ("a", "b", "c"), low=(-1, -1))
