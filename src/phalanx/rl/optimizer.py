"""Adam, as used by all agents, and its state in checkpoints."""

import copy
from typing import Any

import torch

from phalanx.errors import PhalanxError


def adam(parameters: Any, lr: float, device: torch.device, **options: Any) -> torch.optim.Adam:
    """Adam for CUDA graphs: its learning rate, `param_groups[0]["lr"]`, is a tensor that is written
    in place. `options` are torch's."""
    return torch.optim.Adam(
        parameters,
        lr=torch.tensor(lr, device=device),
        fused=True,
        capturable=device.type == "cuda",
        **options,
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's state with plain numbers and without flags for one device, as in RL Games'
    files."""
    state = optimizer.state_dict()
    groups = [{**g, "lr": float(g["lr"]), "capturable": False} for g in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the moments of `state`, keeping the optimiser's own learning rate and flags, and every
    address that a graph holds. Raises PhalanxError for moments of other shapes, because fused Adam
    would write past their end."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own_shapes = [p.shape for p in parameters]
    listed = sum(len(group["params"]) for group in state["param_groups"])
    moments = state["state"].items()
    if listed != len(own_shapes) or any(m["exp_avg"].shape != own_shapes[k] for k, m in moments):
        raise PhalanxError(
            "the checkpoint's optimiser state belongs to other parameters or another order of them;"
            " use the task and train config that it was made with, or remove `optimizer` from the"
            " file"
        )
    if optimizer.state:
        for k, p in enumerate(parameters):
            # Frozen parameters have no moments.
            for name, own in optimizer.state.get(p, {}).items():
                own.copy_(state["state"][k][name]) if k in state["state"] else own.zero_()
        return
    flags = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state))  # because it keeps references to them
    for group, own in zip(optimizer.param_groups, flags, strict=True):
        group.update(own)
