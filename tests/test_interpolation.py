"""`${...}` in settings: what it stands for, and what it may not do."""

import time

import pytest

from phalanx.cli.interpolation import resolve
from phalanx.errors import PhalanxError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${seed}", 3),
        ("${train.list[1]}", 20),
        ("${train.list.1}", 20),
        ("${.name}", "ant"),
        ("${..list}", [10, 20]),
        ("${...task.num}", 64),
        ("a_${seed}_${.name}", "a_3_ant"),
        ("${eq:Ant,${.name}}", True),
        ("${if:${eq:${.name},'x'},1,[2]}", "[2]"),
        ("${if:${contains:an,${.name}},${seed},no}", 3),
        ("${resolve_default:4096,${nothing}}", 4096),
        ("${resolve_default:'a, b',${empty}}", "a, b"),
        ("${resolve_default:null,${seed}}", 3),
        ("${train.${which}}", [10, 20]),
        ("${alias}", 3),
        ("${whole.num}", 64),
        ("cost: 5$ {a}", "cost: 5$ {a}"),
    ],
)
def test_a_reference_is_what_omegaconf_made_of_it(text, value):
    root = {
        "seed": 3, "nothing": None, "empty": "", "which": "list", "alias": "${chain}",
        "chain": "${seed}", "whole": "${task}", "task": {"num": 64},
        "train": {"list": [10, 20], "config": {"name": "ant", "x": text}},
    }  # fmt: skip
    assert resolve(root)["train"]["config"]["x"] == value


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ({"a": "${b}"}, "Interpolation key 'b' not found"),
        ({"a": "${..b}"}, "more dots than"),
        ({"a": "${a}"}, "is defined by itself"),
        ({"a": "${b}", "b": {"c": "${a.d}"}}, "is defined by itself"),
        ({"a": "${oc.env:HOME}"}, "unknown function 'oc.env'; accepted: eq, contains"),
        ({"a": "${eqq:1,2}"}, "did you mean 'eq'?"),
        ({"a": "${eq:1}"}, "eq takes 2 arguments, not 1"),
        ({"a": "${b"}, "a closing brace is missing"),
        ({"a": "${}"}, "a path is missing"),
        ({"a": "${" * 100 + "b" + "}" * 100}, "nested too deep"),
        ({"a": "x${b}", "b": {}}, "a mapping or list cannot be part of a text"),
        (
            {"a0": "12345678"} | {f"a{i}": f"${{a{i - 1}}}" * 2 for i in range(1, 40)},
            "becomes a text of 16384 characters",
        ),
        (
            {"a0": [1, 2]} | {f"a{i}": [f"${{a{i - 1}}}"] * 2 for i in range(1, 40)},
            "more than 100000 values",
        ),
        ({f"a{i}": f"${{a{i + 1}}}" for i in range(900)} | {"a900": 1}, "defined by itself"),
    ],
)
def test_a_faulty_reference_is_one_sentence_at_once(root, words):
    start = time.process_time()
    with pytest.raises(PhalanxError) as error:
        resolve(root)
    assert words in str(error.value)
    assert time.process_time() - start < 20  # what it stands for would take for ever
