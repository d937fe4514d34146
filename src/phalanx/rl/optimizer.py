"""Adam, as used by all agents, and its state in checkpoints."""

import copy
from typing import Any

import torch

from phalanx.errors import PhalanxError
from phalanx.fits import check_finite, check_tensor, mapping, number
from phalanx.gate import listed as listed_keys
from phalanx.rl import ranks


class ClippedAdam(torch.optim.Adam):
    """Adam that clips gradients by their norm."""

    compiled: Any = None
    """On a CPU `compute.adam.Adam`, which takes the steps if it is there."""

    def clip_and_step(self, most: float | None, *also: torch.Tensor) -> None:
        """Average the gradients over all ranks, and the tensors `also` with them; scale the
        gradients down to a norm of `most`, None to leave them; take a step."""
        parameters = [p for group in self.param_groups for p in group["params"]]
        ranks.average([*(p.grad for p in parameters if p.grad is not None), *also])
        if self.compiled is not None:
            self.compiled.step(most)
            return
        if most is not None:
            torch.nn.utils.clip_grad_norm_(parameters, most)
        self.step()

    def compile_on_cpu(self) -> None:
        """From now on take steps in a compiled function. Raises PhalanxError if it fails to
        compile."""
        from phalanx.compute.adam import Adam

        self.compiled = Adam(self)


def adam(parameters: Any, lr: float, device: torch.device, **options: Any) -> ClippedAdam:
    """Adam for CUDA graphs: its learning rate, `param_groups[0]["lr"]`, is a tensor that is written
    in place. `options` are torch's."""
    return ClippedAdam(
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


def check_optimizer(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Raise PhalanxError unless `state` has moments for these parameters, or none: fused Adam would
    write past the end of smaller ones."""
    where = "the optimiser's state"
    groups = mapping(state, where).get("param_groups")
    if not isinstance(groups, list) or len(groups) != len(optimizer.param_groups):
        raise PhalanxError(f"{where} has no param_groups that fit")
    for group in groups:
        number(mapping(group, "a group of parameters").get("lr"), "its learning rate", least=0)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    listed = [group.get("params") for group in groups]
    numbers = [n for part in listed if isinstance(part, list) for n in part]
    moments = mapping(state.get("state"), where)
    places = range(len(parameters))
    fits = [n if type(n) is int else None for n in numbers] == [*places]
    fits = fits and all(type(k) is int and k in places for k in moments)
    if not fits or any(
        isinstance(m, dict)
        and isinstance(m.get("exp_avg"), torch.Tensor)
        and m["exp_avg"].shape != parameters[k].shape
        for k, m in moments.items()
    ):
        raise PhalanxError(
            "the checkpoint's optimiser state belongs to other parameters or another order of them;"
            " use the task and train config that it was made with, or remove `optimizer` from the"
            " file"
        )
    for k, moment in moments.items():
        step = mapping(moment, where).get("step")
        number(step, f"{where}[{k}].step", least=0)
        if isinstance(step, torch.Tensor):
            check_tensor(step, f"{where}[{k}].step", ())
        if set(moment) != {"step", "exp_avg", "exp_avg_sq"}:
            raise PhalanxError(f"{where}[{k}] has {listed_keys(moment)}; it must be Adam's")
        for name in ("exp_avg", "exp_avg_sq"):
            check_tensor(moment[name], f"{where}[{k}].{name}", parameters[k].shape)
            check_finite(moment[name], f"{where}[{k}].{name}")
        if (moment["exp_avg_sq"] < 0).any():
            raise PhalanxError(f"{where}[{k}].exp_avg_sq holds negative numbers")


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the moments of `state`, keeping the optimiser's own learning rate and flags, and every
    address that a graph holds. Raises PhalanxError, before anything has changed, for a state that
    does not fit."""
    check_optimizer(optimizer, state)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if optimizer.state:
        for k, p in enumerate(parameters):
            # Frozen parameters have no moments.
            for name, own in optimizer.state.get(p, {}).items():
                saved = state["state"].get(k)
                own.zero_() if saved is None else own.copy_(torch.as_tensor(saved[name]))
        return
    flags = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(copy.deepcopy(state))  # because it keeps references to them
    for group, own in zip(optimizer.param_groups, flags, strict=True):
        group.update(own)
