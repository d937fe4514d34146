"""Completion: the words that may follow, and the scripts of the shells."""

import shutil
import subprocess
import sys

import pytest

from phalanx.cli.completion import SCRIPTS, words
from phalanx.cli.main import main


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("phalanx tr", {"train"}),
        ("phalanx train ta", {"task=", "task.env.dt="}),
        ("phalanx train task=", {"task=Ant", "task=Cartpole"}),
        ("phalanx train task=Ant task.env.ali", {"task.env.alive_weight="}),
        ("phalanx train train=CartpoleSAC train.params.config.gradient", set()),
        ("phalanx train train=CartpoleSAC train.params.config.replay", {
            "train.params.config.replay_buffer_size="}),
        ("phalanx train deterministic=", {"deterministic=true", "deterministic=false"}),
        ("phalanx train train=", {"train=AntSAC"}),
        ("phalanx doctor a", {"all="}),
        ("phalanx train task=Nobody task.e", set()),
        ("phalanx nothing a", set()),
    ],
)  # fmt: skip
def test_words_that_may_follow(typed, some):
    found = words(typed.split(" "))
    assert some <= set(found)
    assert bool(some) == bool(found)


def test_a_checkpoint_is_a_run_folder(tmp_path, monkeypatch):
    (tmp_path / "runs/Ant/nn").mkdir(parents=True)
    for name in ("last_Ant.pth", "last_Ant_ep_20_rew_126.7938.pth"):
        (tmp_path / "runs/Ant/nn" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert words(["phalanx", "play", "checkpoint="]) == ["checkpoint=runs/Ant"]


def in_bash(line):
    """What bash offers after `line`; it takes a `=` for the beginning of a word."""
    program = f'eval "$(phalanx completion bash)"; COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}'
    function = f'phalanx() {{ {sys.executable} -m phalanx "$@"; }}; compopt() {{ :; }}'
    shown = f'{function}; {program}; _phalanx; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(["bash", "-c", shown], capture_output=True, text=True).stdout.split()


def test_bash_completes_keys_and_values():
    assert in_bash("phalanx train task=An") == ["Ant", "AnymalVelocity"]
    assert in_bash("phalanx train see") == ["seed="]


def in_zsh(line):
    """What the script offers in zsh after `line`."""
    program = f"""
        compdef() {{ : }}
        compadd() {{ shift 3; print -l -- ${{(M)@:#$PREFIX*}} }}  # it takes the fitting ones
        phalanx() {{ {sys.executable} -m phalanx "$@" }}
        eval "$(phalanx completion zsh)"
        words=({line}); CURRENT=$#words; PREFIX=$words[-1]; _phalanx"""
    return subprocess.run(["zsh", "-fc", program], capture_output=True, text=True).stdout.split()


def in_fish(line):
    """What fish offers after `line`."""
    program = f"""
        function phalanx; {sys.executable} -m phalanx $argv; end
        phalanx completion fish | source
        complete -C {line!r}"""
    shell = ["fish", "--no-config", "-c", program]
    return subprocess.run(shell, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(("shell", "offers"), [("zsh", in_zsh), ("fish", in_fish)])
def test_zsh_and_fish_complete_keys_and_values(shell, offers):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    assert offers("phalanx train task=An") == ["task=Ant", "task=AnymalVelocity"]
    assert offers("phalanx train see") == ["seed="]


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_correct_for_their_shell(shell, capsys):
    main(["completion", shell])
    script = capsys.readouterr().out
    assert "phalanx completion words" in script
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} here")
    assert subprocess.run([shell, "-n", "-c", script]).returncode == 0
