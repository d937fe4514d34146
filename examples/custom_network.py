"""Your own network: a policy with a sine layer, registered by name.

    python examples/custom_network.py

A network builder has `load(params)` and `build(name, **kwargs)`, which returns an `nn.Module` from
{"obs": (B, D)} to (mu, log std, value, None). The model adds the normalisers and the distribution.
"""

import sys

import torch
from torch import nn

from phalanx.cli.config import compose_config, train_params
from phalanx.rl import Runner, register_network


class SineNetwork(nn.Module):
    """One hidden layer of sines, shared by actor and critic."""

    def __init__(self, width, actions_num, input_shape, value_size):
        super().__init__()
        self.hidden = nn.Linear(input_shape[0], width)
        self.mu = nn.Linear(width, actions_num)
        self.value = nn.Linear(width, value_size)
        self.sigma = nn.Parameter(torch.zeros(actions_num))

    def forward(self, inputs):
        features = torch.sin(self.hidden(inputs["obs"]))
        mu = self.mu(features)
        return mu, self.sigma.expand_as(mu), self.value(features), None

    def is_rnn(self):
        return False


class SineBuilder:
    """Builds `SineNetwork`; registered as `sine`. `load` gets the YAML's network section."""

    def load(self, params):
        self.width = params.get("width", 64)

    def build(self, name, *, actions_num, input_shape, value_size, **_):
        return SineNetwork(self.width, actions_num, input_shape, value_size)


def main(arguments):
    register_network("sine", lambda **kwargs: SineBuilder())
    params = train_params(compose_config(arguments))
    params["network"] = {"name": "sine", "width": 64}
    runner = Runner()
    runner.load({"params": params})
    best, iterations = runner.run({"train": True})
    print(f"best mean return {best:.1f} after {iterations} iterations")
    return best


if __name__ == "__main__":
    main(sys.argv[1:] or ["task=Cartpole", "max_iterations=60", "experiment=Sine"])
