"""`phalanx completion bash|zsh|fish`: a script that completes commands, keys and their values.

    eval "$(phalanx completion bash)"             in ~/.bashrc
    eval "$(phalanx completion zsh)"              in ~/.zshrc
    phalanx completion fish | source              in ~/.config/fish/config.fish

The script asks `phalanx completion words <what is typed so far>` for the words that may follow.
Keys come from the sources of the dataclasses (`fields.py`), so nothing slow is imported.
"""

from collections.abc import Sequence
from pathlib import Path

from phalanx import tasks
from phalanx.cli.commands import ALGORITHMS, COMMANDS, NETWORKS
from phalanx.cli.fields import Field, fields, find_class
from phalanx.cli.help import HIDDEN, config_class, read_train
from phalanx.cli.keys import TEXTS
from phalanx.cli.settings import GENERAL_TRAIN, own_train, train_names
from phalanx.errors import PhalanxError, did_you_mean

SCRIPTS = {
    "bash": """\
_phalanx() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    word="${line##*[[:space:]]}"
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W "$(IFS=' '; phalanx completion words $line)" -- "$word"))
    [[ "$word$COMP_WORDBREAKS" == *=*=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
}
complete -o default -F _phalanx phalanx
""",
    "zsh": """\
_phalanx() {
    local -a found
    found=(${(f)"$(phalanx completion words ${words[1,CURRENT]})"})
    if (( $#found )); then compadd -S '' -- $found; else _files -P "${PREFIX%%=*}="; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _phalanx phalanx
""",
    "fish": """\
complete -c phalanx -f -a '(phalanx completion words (commandline -opc) (commandline -ct))'
""",
}


def completion(arguments: list[str]) -> None:
    """Print the script of a shell, or the words that may follow. Raises PhalanxError for another
    shell."""
    if arguments and arguments[0] == "words":
        print("\n".join(words(arguments[1:])))
        return
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        near = did_you_mean(arguments[0], SCRIPTS) if arguments else ""
        raise PhalanxError(f"completion takes a shell: bash, zsh or fish{near}")
    print(SCRIPTS[arguments[0]], end="")


def words(typed: Sequence[str]) -> list[str]:
    """Words that may be in the last place of `typed`, which begins with `phalanx`; empty where the
    shell's own completion of files is better."""
    command, *given = typed[1:] or [""]
    last = given[-1] if given else command
    if not given:
        return [name for name in COMMANDS if name.startswith(last)]
    if command not in COMMANDS:
        return []
    key, equals, _ = last.partition("=")
    try:
        keys = _keys(command, dict(g.split("=", 1) for g in given[:-1] if "=" in g))
    except PhalanxError:  # an unknown task, a broken file: the command itself will say so
        return []
    if equals:
        return [f"{key}={value}" for value in _values(key, keys)]
    return [f"{name}=" for name in keys if name.startswith(last)]


def _keys(command: str, given: dict[str, str]) -> dict[str, Field]:
    about = COMMANDS[command]
    found: dict[str, Field] = {}
    if about.options:
        found = {f.name: f for f in fields(find_class(about.options), nested=False)}
    if about.takes_task:
        task = given.get("task", "Cartpole")
        cls = config_class(task)
        found |= {f"task.env.{f.name}": f for f in (fields(cls) if cls else [])}
        _, params = read_train(given.get("train") or own_train(task) or GENERAL_TRAIN["Box"])
        for section, places in (("config", ALGORITHMS), ("network", NETWORKS)):
            place = places.get(params["algo" if section == "config" else section].get("name", ""))
            for field in fields(find_class(place)) if place else ():
                if field.name not in HIDDEN:
                    found[f"train.params.{section}.{field.name}"] = field
    return found


def _values(key: str, keys: dict[str, Field]) -> list[str]:
    if key == "task":
        return sorted(tasks.names())
    if key == "train":
        return train_names()
    if key == "checkpoint":
        return sorted({str(p.parent.parent) for p in Path().glob("*/*/nn/last_*.pth")})
    if key not in keys or key in TEXTS:
        return []
    return ["true", "false"] if keys[key].default in ("true", "false") else []
