"""Compiled perceptrons and normalisers agree with torch."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from phalanx.compute.normalize import Normalize
from phalanx.compute.perceptron import PARTS, Perceptron, supported_products


def needs(products):
    return pytest.mark.skipif(
        products not in supported_products(),
        reason=f"this processor does not multiply {products!r}",
    )


PRECISIONS = {"float": (1e-5, 1e-5), "split": (3e-5, 5e-5), "half": (1e-2, 6e-2)}
"""Relative to each number, and to the largest one: bfloat16 has 8 bits. With room for the order in
which other processors add."""
PRODUCTS = [pytest.param(p, marks=needs(p)) for p in PARTS]
ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}


def make(sizes, widths, activation, threads=2, products="float"):
    torch.manual_seed(0)
    linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    heads = [nn.Linear(sizes[-1], w) for w in widths]
    trunk = nn.Sequential(*[m for one in linears for m in (one, ACTIVATIONS[activation]())])
    return Perceptron(linears, heads, activation, threads, products), trunk, nn.ModuleList(heads)


def gradients(outputs, modules):
    weights = [m.weight for m in modules] + [m.bias for m in modules]
    scales = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y) for y in outputs]
    loss = sum((y * s + y.square()).mean() for y, s in zip(outputs, scales, strict=True))
    return torch.autograd.grad(loss, weights)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize(
    ("sizes", "widths", "rows", "activation"),
    [
        ((60, 256, 128, 64), (8, 1), 700, "elu"),
        ((5, 13, 7), (3,), 37, "tanh"),  # nothing is a multiple of a vector
        ((3, 100), (2, 2, 1), 1, "relu"),
        ((70, 33, 20), (21, 1), 5000, "elu"),  # on two threads, the last chunks are short
    ],
)
def test_values_and_gradients_are_those_of_torch(sizes, widths, rows, activation, products):
    perceptron, trunk, heads = make(sizes, widths, activation, products=products)
    modules = [*(m for m in trunk if isinstance(m, nn.Linear)), *heads]
    x = 2 * torch.randn(rows, sizes[0])
    own = perceptron(x)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(own, perceptron(x), strict=True))
    own_gradients = gradients(own, modules)
    for module in (trunk, heads):
        module.double()
    hidden = trunk(x.double())
    exact = [head(hidden) for head in heads]
    exact_gradients = gradients(exact, modules)
    relative, part = PRECISIONS[products]
    for a, b in zip((*own, *own_gradients), (*exact, *exact_gradients), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=relative, atol=part * b.abs().max().item())


@needs("half")
@pytest.mark.parametrize(("inputs", "widths", "rows"), [(33, (21, 1), 300), (7, (5,), 3)])
def test_bfloat16_rounds_factors_and_nothing_else(inputs, widths, rows):
    perceptron, _, heads = make((inputs,), widths, "elu", products="half")
    x = torch.randn(rows, inputs)
    outputs = perceptron(x)
    given = [torch.randn_like(y) for y in outputs]
    gradients = torch.autograd.grad(outputs, [m.weight for m in heads], given)
    for head, y, g, own in zip(heads, outputs, given, gradients, strict=True):
        factors = (t.detach().bfloat16().double() for t in (x, head.weight, g))
        a, b, c = factors
        torch.testing.assert_close(y.double(), a @ b.T + head.bias, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own.double(), c.T @ a, rtol=1e-5, atol=1e-4)


def test_rows_do_not_depend_on_the_number_of_threads():
    one, two = (make((60, 256, 128), (8,), "elu", threads)[0] for threads in (1, 2))
    x = torch.randn(4099, 60)
    with torch.no_grad():
        assert torch.equal(one(x)[0], two(x)[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("products", PRODUCTS)
def test_what_is_not_a_number_stays_so(activation, bad, products):
    perceptron, _, _ = make((5, 32, 7), (3,), activation, products=products)
    x = torch.zeros(20, 5)
    x[13, 2] = bad
    (y,) = perceptron(x)
    assert y[:13].isfinite().all()
    assert y[14:].isfinite().all()
    assert bad != bad or activation == "tanh" or not y[13].isfinite().all()
    assert bad == bad or y[13].isnan().all()


def test_large_and_small_inputs_of_an_activation():
    perceptron, trunk, heads = make((1, 1), (1,), "elu")
    for p in (trunk[0].weight, heads[0].weight):
        p.data.fill_(1.0)
    for p in (trunk[0].bias, heads[0].bias):
        p.data.zero_()
    x = torch.tensor([-1e30, -200.0, -87.5, -20.0, -1.0, -1e-3, -1e-7, 0.0, 1e-7, 3.0, 1e30])
    y = perceptron(x[:, None])[0][:, 0]
    torch.testing.assert_close(y, nn.functional.elu(x), rtol=1e-6, atol=3e-7)


def test_weights_that_change_before_the_gradient_are_noticed():
    perceptron, trunk, _ = make((5, 8), (3,), "elu")
    (y,) = perceptron(torch.randn(4, 5))
    with torch.no_grad():
        trunk[0].weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (127, 5), (2048, 60), (1000, 33)])
def test_batches_are_normalised_as_by_torch(rows, width):
    torch.manual_seed(0)
    compiled = Normalize()
    x = torch.randn(rows, width) * torch.logspace(-2, 2, width) + torch.linspace(-100, 100, width)
    mean, variance = compiled.moments(x)
    exact = x.double()
    torch.testing.assert_close(mean, exact.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance, exact.var(0, correction=0), rtol=1e-3, atol=1e-9)
    normalized = compiled(x, mean.float(), 1 / (variance.float() + 1e-5).sqrt(), 1.5)
    scaled = (x - mean.float()) / (variance.float() + 1e-5).sqrt()
    torch.testing.assert_close(normalized, scaled.clamp(-1.5, 1.5))


def test_an_observation_that_is_not_a_number_stays_so():
    x = torch.zeros(3, 40)
    x[1, 7] = torch.nan
    y = Normalize()(x, torch.zeros(40), torch.ones(40), 5.0)
    assert y.isnan().sum() == y[1, 7].isnan() == 1
