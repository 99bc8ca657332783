"""The small models of the papers: LeNet-5, a perceptron, ResNets with the 3×3 stem for small images, wide ResNets, a ViT."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SMALL_MODELS"]


def mlp(classes: int, channels: int, size: int) -> nn.Module:
    """Two hidden layers of 256."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size * size, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, classes),
    )


def lenet5(classes: int, channels: int, size: int) -> nn.Module:
    """LeCun et al. 1998, with ReLU and max pooling. Images under 32 pixels are padded, as there; larger ones make its first
    dense layer larger.
    """
    padding = 2 if size < 32 else 0
    side = ((size + 2 * padding - 4) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"LeNet-5 needs images of at least 12 pixels, got {size}")
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * side * side, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, classes),
    )


def vit_mini(classes: int, channels: int, size: int) -> nn.Module:
    """A vision transformer of 3 layers, 4 heads and width 64 on 16 patches (torchvision's layers, without dropout)."""
    from torchvision.models import VisionTransformer

    if size % 4:
        raise ValueError(f"vit-mini cuts images into 4 × 4 patches and {size} pixels are no multiple of 4")
    model = VisionTransformer(
        size, size // 4, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=classes
    )
    if channels != 3:
        model.conv_proj = nn.Conv2d(channels, 64, size // 4, size // 4)
    nn.init.trunc_normal_(
        model.heads.head.weight, std=0.02
    )  # torchvision starts it at zero, its features at small values
    out: nn.Module = model
    return out


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut; `pre` puts normalisation and ReLU in front of each (He et al. 2016b)."""

    def __init__(self, inputs: int, outputs: int, stride: int, pre: bool) -> None:
        super().__init__()
        self.pre = pre
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs if pre else outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = conv if pre else nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, inputs, h, w) → (n, outputs, h / stride, w / stride)."""
        if self.pre:
            normed = F.relu(self.bn1(x))
            skip = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(normed)
            inner: Tensor = self.conv2(F.relu(self.bn2(self.conv1(normed))))
            return inner + skip
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet for small images: a 3×3 stem without pooling, stages that halve the image, mean pooling, one dense layer."""

    def __init__(
        self, widths: Sequence[int], blocks: int, classes: int, channels: int, stem: int = 0, pre: bool = False
    ) -> None:
        super().__init__()
        width = stem or widths[0]
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[-1] if pre else width)
        layers: list[nn.Module] = []
        for stage, outputs in enumerate(widths):
            for block in range(blocks):
                layers.append(BasicBlock(width, outputs, 2 if stage and not block else 1, pre))
                width = outputs
        self.layers, self.pre = nn.Sequential(*layers), pre
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, channels, h, w) → logits (n, classes)."""
        x = self.stem(x)
        x = F.relu(self.norm(self.layers(x))) if self.pre else self.layers(F.relu(self.norm(x)))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def resnet(widths: Sequence[int], blocks: int, **shape: bool | int) -> Callable[[int, int, int], nn.Module]:
    """A maker of one ResNet, of the signature all makers here share."""
    return lambda classes, channels, size: ResNet(widths, blocks, classes, channels, **shape)  # type: ignore[arg-type]


SMALL_MODELS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "lenet5": lenet5,
    "mlp": mlp,
    "resnet8": resnet((32, 64, 128), 1),
    "resnet8-slim": resnet((8, 16, 32), 1),
    "resnet18": resnet((64, 128, 256, 512), 2),
    "resnet20": resnet((16, 32, 64), 3),
    "vit-mini": vit_mini,
    "wrn-28-10": resnet((160, 320, 640), 4, stem=16, pre=True),
}
