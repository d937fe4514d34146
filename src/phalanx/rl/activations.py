"""Activations by the names that RL Games' YAML gives them."""

from torch import nn

from phalanx.errors import PhalanxError, did_you_mean

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "None": nn.Identity,
}


def activation(name: str, in_place: bool = False) -> nn.Module:
    """A module for `name`; with `in_place` it may overwrite its input."""
    module = ACTIVATIONS[name]()
    if in_place and isinstance(module, nn.ELU):
        module.inplace = True  # the gradient is then computed from the output, without exp
    return module


def check_activation(name: str, where: str) -> None:
    """Raise PhalanxError unless the value `name` of key `where` is the name of an activation."""
    if name not in ACTIVATIONS:
        raise PhalanxError(
            f"{where} is {name!r}{did_you_mean(name, ACTIVATIONS)};"
            f" accepted: {', '.join(ACTIVATIONS)}"
        )


IS_ACTIVATION = {"check": check_activation}
"""Metadata of a dataclass field whose value is the name of an activation."""
