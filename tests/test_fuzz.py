"""The first cases of each loader's fuzzing; `python tests/fuzz/run.py` runs any number."""

import time

import pytest

from fuzz import mutate, run, targets

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = {"npy": 100, "bvh": 100, "json": 100}


@pytest.mark.parametrize("name", targets.TARGETS)
def test_a_broken_file_gives_a_sentence_or_loads_rightly(name, tmp_path):
    target = targets.TARGETS[name](tmp_path)
    for number in range(CASES.get(name, 10)):
        argument = target.case(mutate.seeded(name, number))
        start = time.perf_counter()
        kind, said = run.outcome(target, argument)
        assert kind in run.GOOD, f"python tests/fuzz/run.py {name} case={number}\n{said}"
        assert time.perf_counter() - start < run.SECONDS
