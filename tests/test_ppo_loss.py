"""The compiled loss is that of `formulas`, with its gradient, and the compiled step Adam's."""

import pytest
import torch

from phalanx.compute.adam import Adam
from phalanx.compute.ppo_loss import PPOLoss
from phalanx.rl import formulas
from phalanx.rl.models import HALF_LOG_2PI


def minibatch(rows, actions, dtype):
    torch.manual_seed(0)
    mu = torch.randn(rows, actions, dtype=dtype)
    sigma = torch.linspace(0.3, 1.4, actions, dtype=dtype)
    old_mu = mu + 0.2 * torch.randn_like(mu)
    acted = old_mu + sigma * torch.randn_like(mu)
    neglogp = (0.5 * ((acted - old_mu) / sigma) ** 2 + HALF_LOG_2PI + sigma.log()).sum(-1)
    old_values = torch.randn(rows, 1, dtype=dtype)
    batch = {
        "actions": acted, "mus": old_mu, "sigmas": sigma.expand(rows, actions),
        "neglogpacs": neglogp, "advantages": torch.randn(rows, dtype=dtype),
        "old_values": old_values, "returns": torch.randn(rows, 1, dtype=dtype),
    }  # fmt: skip
    value = (old_values + 0.4 * torch.randn_like(old_values)).requires_grad_()
    log_std = (sigma.log() + 0.1).requires_grad_()
    return mu.requires_grad_(), log_std, value, batch


def by_torch(mu, log_std, value, batch, clip, clip_value, value_weight, bounds_weight, soft):
    new = (0.5 * ((batch["actions"] - mu) / log_std.exp()) ** 2 + HALF_LOG_2PI + log_std).sum(-1)
    a = formulas.surrogate_loss(batch["neglogpacs"], new, batch["advantages"], clip)
    c = formulas.value_loss(value, batch["old_values"], batch["returns"], clip_value)
    b = formulas.bound_loss(mu, soft) if soft else mu.square().sum(-1).mean()
    sigma = log_std.exp().expand_as(mu)
    kl = formulas.gaussian_kl(mu, sigma, batch["mus"], batch["sigmas"])
    return a + value_weight * c + bounds_weight * b, torch.stack([a, c, b]), kl


@pytest.mark.parametrize(
    ("rows", "actions", "settings"),
    [
        (2048, 8, (0.2, 0.2, 1.0, 1e-4, 1.1)),
        (300, 21, (0.1, None, 2.0, 0.3, 0.0)),
        (1, 1, (0.2, 0.1, 0.0, 0.0, 1.1)),
    ],
)
def test_loss_and_gradient_are_those_of_torch(rows, actions, settings):
    own = minibatch(rows, actions, torch.float32)
    exact = minibatch(rows, actions, torch.float64)
    exact[3].update({k: v.double() for k, v in own[3].items()})
    for a, b in zip(own[:3], exact[:3], strict=True):
        b.data.copy_(a)
    pairs = list(zip(PPOLoss(*settings)(*own), by_torch(*exact, *settings), strict=True))
    ours = torch.autograd.grad(pairs[0][0], own[:3], allow_unused=True)
    theirs = torch.autograd.grad(pairs[0][1], exact[:3])
    trained = 3 if settings[2] else 2  # with a gradient of zero, the value's weights would decay
    assert trained == 3 or ours[2] is None
    for a, b in (*pairs, *zip(ours[:trained], theirs[:trained], strict=True)):
        scale = b.abs().max().item()
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=3e-6 * scale)


@pytest.mark.parametrize("bad", [0, 2])
def test_what_is_not_a_number_reaches_the_loss(bad):
    inputs = minibatch(50, 3, torch.float32)
    inputs[bad].data[7] = torch.nan
    loss, _, _ = PPOLoss(0.2, 0.2, 1.0, 1e-4, 1.1)(*inputs)
    assert loss.isnan()
    gradients = torch.autograd.grad(loss, inputs[:3])
    assert any(g.isnan().any() for g in gradients)


@pytest.mark.parametrize(("most", "decay"), [(None, 0.0), (0.5, 0.01), (1e9, 0.0)])
def test_adam_is_that_of_torch(most, decay):
    torch.manual_seed(0)
    start = [torch.randn(30, 7), torch.randn(5), torch.randn(())]
    lr = torch.tensor(0.01)
    both = []
    for compiled in (True, False):
        parameters = [torch.nn.Parameter(x.clone()) for x in start]
        frozen = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.Adam([*parameters, frozen], lr=lr, weight_decay=decay, fused=True)
        own = Adam(optimizer)
        for k in range(20):
            for i, p in enumerate(parameters):
                p.grad = torch.cos(3 * p.detach() + i + k) * (1 + k)
            versions = [p._version for p in parameters]
            if compiled:
                own.step(most)
                assert all(p._version > v for p, v in zip(parameters, versions, strict=True))
            else:
                if most is not None:
                    torch.nn.utils.clip_grad_norm_(parameters, most)
                optimizer.step()
        states = [optimizer.state[p] for p in parameters]
        assert frozen not in optimizer.state or not optimizer.state[frozen]
        kept = [s[k] for s in states for k in ("exp_avg", "exp_avg_sq", "step")]
        both.append([*parameters, *kept])
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_adam_does_not_hide_what_is_not_a_number():
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = torch.tensor([0.0, torch.nan, 1.0, 1.0])
    Adam(torch.optim.Adam([p], lr=torch.tensor(0.1), fused=True)).step(1.0)
    assert p.isnan().all()  # its norm is not a number
