"""`resnet_actor_critic`: images through the residual network of IMPALA, then MLP and heads."""

from typing import Any

from torch import Tensor, nn

from phalanx.errors import PhalanxError
from phalanx.rl.activations import activation
from phalanx.rl.network_config import ActorCriticConfig
from phalanx.rl.networks import ActorCritic, ActorCriticBuilder
from phalanx.rl.registry import register_network


class ResnetActorCriticBuilder(ActorCriticBuilder):
    """Builds `ResnetActorCritic`; registered as `resnet_actor_critic`."""

    def build(self, name: str, **kwargs: Any) -> "ActorCritic":
        return ResnetActorCritic(self.config, **kwargs)


class ResnetActorCritic(ActorCritic):
    """Images through the residual network of IMPALA, one block per `cnn.conv_depths`; its
    parameters are `cnn.*` and `mlp.*`. Source: arXiv:1802.01561, figure 3."""

    cnn_name, mlp_name = "cnn", "mlp"

    def __init__(self, config: ActorCriticConfig, **kwargs: Any) -> None:
        if config.separate or config.cnn is None or not config.cnn.conv_depths:
            raise PhalanxError(
                "resnet_actor_critic needs params.network.cnn.conv_depths, as in [16, 32, 32], and"
                " separate: false"
            )
        super().__init__(config, **kwargs)

    def _convolutions(self, shape: tuple[int, ...]) -> nn.Module:
        assert self.config.cnn is not None
        blocks, channels = [], shape[0]
        for depth in self.config.cnn.conv_depths:
            blocks.append(ImpalaBlock(channels, depth))
            channels = depth
        # RL Games applies the MLP's activation to the last block's output, not the CNN's.
        return nn.Sequential(*blocks, nn.Flatten(), activation(self.config.mlp.activation))

    def _build_trunk(self, into_mlp: int, into_rnn: int) -> None:
        self._build_rnn(into_rnn)
        self._build_mlp(into_mlp)

    def _initialize(self) -> None:
        super()._initialize()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Conv3x3(nn.Module):
    """3 x 3 convolution (B, C, H, W) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(channels, channels)
        self.conv2 = Conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.conv1(x.relu()).relu())


class ImpalaBlock(nn.Module):
    """Convolution, pooling to half the size, two residual blocks: (B, C, H, W) -> (B, depth, H / 2,
    W / 2), rounded up."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, depth)
        self.max_pool = nn.MaxPool2d(3, 2, 1)
        self.res_block1 = Residual(depth)
        self.res_block2 = Residual(depth)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_block2(self.res_block1(self.max_pool(self.conv(x))))


register_network("resnet_actor_critic", lambda **kwargs: ResnetActorCriticBuilder())
