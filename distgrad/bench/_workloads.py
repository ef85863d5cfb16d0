"""Training steps to measure: small models of the kinds that people train.

Each is written once against torch's names and takes the library as an argument, so that the benchmarks run the same
lines on torch. This file imports nothing of distgrad for that reason: a Python that has only torch can load it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Program(NamedTuple):
    """A model with its data and its optimizer.

    Args:
        model: a module; it may be wrapped before the first step.
        optimizer: makes the optimizer of the model's parameters.
        loss: the loss of a model on the data, as a tensor of shape ().
    """

    model: Any
    optimizer: Callable[[Any], Any]
    loss: Callable[[Any], Any]


class Workload(NamedTuple):
    """One kind of training.

    Args:
        batch: samples that a rank takes in a step.
        build: makes the program from the library (distgrad or torch), the samples of a step and the device.
    """

    batch: int
    build: Callable[[Any, int, str], Program]


def tiny(torch: Any, batch: int, device: str) -> Program:
    """A perceptron of 1,185 parameters: what a step costs beside the arithmetic."""
    nn = torch.nn
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    x, y = torch.randn(batch, 2).to(device), torch.randn(batch, 1).to(device)

    def loss(model: Any) -> Any:
        return nn.functional.mse_loss(model(x), y)

    return Program(model.to(device), lambda parameters: torch.optim.SGD(parameters, lr=1e-2), loss)


def mlp(torch: Any, batch: int, device: str) -> Program:
    """A perceptron for images of 28 x 28: three matrix products and Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # 669,706 parameters
    x, y = torch.randn(batch, 784).to(device), torch.randint(0, 10, (batch,)).to(device)
    return _classifier(torch, model.to(device), x, y, lambda parameters: torch.optim.Adam(parameters, lr=1e-3))


def cnn(torch: Any, batch: int, device: str) -> Program:
    """Two convolutions with pooling on images of 3 x 32 x 32, and Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )
    x, y = torch.randn(batch, 3, 32, 32).to(device), torch.randint(0, 10, (batch,)).to(device)
    return _classifier(torch, model.to(device), x, y, lambda parameters: torch.optim.Adam(parameters, lr=1e-3))


def resnet(torch: Any, batch: int, device: str) -> Program:
    """ResNet-20 for images of 3 x 32 x 32 (He et al. 2015, section 4.2), and SGD with momentum."""
    nn = torch.nn
    relu = nn.functional.relu

    def convolution(inputs: int, outputs: int, kernel: int, stride: int) -> Any:
        padded = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        return nn.Sequential(padded, nn.BatchNorm2d(outputs))

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = convolution(inputs, outputs, 3, stride)
            self.second = convolution(outputs, outputs, 3, 1)
            self.skip = nn.Identity() if inputs == outputs else convolution(inputs, outputs, 1, stride)

        def forward(self, x: Any) -> Any:
            return relu(self.second(relu(self.first(x))) + self.skip(x))

    widths = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
    blocks = [Block(*width) for width in widths]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    model = nn.Sequential(convolution(3, 16, 3, 1), nn.ReLU(), *blocks, *head)  # 272,474 parameters
    x, y = torch.randn(batch, 3, 32, 32).to(device), torch.randint(0, 10, (batch,)).to(device)

    def optimizer(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)

    return _classifier(torch, model.to(device), x, y, optimizer)


GPT_WIDTH, GPT_HEADS, GPT_DEPTH, GPT_CONTEXT, GPT_VOCABULARY = 256, 4, 4, 128, 256


def gpt(torch: Any, batch: int, device: str) -> Program:
    """A decoder of four blocks on sequences of 128 tokens, and AdamW."""
    nn = torch.nn
    width, vocabulary = GPT_WIDTH, GPT_VOCABULARY

    class Block(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            parts = self.qkv(self.norm1(x)).split(width, dim=2)
            q, k, v = (p.view(b, t, GPT_HEADS, width // GPT_HEADS).transpose(1, 2) for p in parts)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, width / heads)
            x = x + self.out(y.transpose(1, 2).contiguous().view(b, t, width))
            return x + self.mlp(self.norm2(x))

    class Decoder(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(GPT_CONTEXT, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(GPT_DEPTH)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]).to(tokens.device))
            return self.head(self.norm(self.blocks(x))).view(-1, vocabulary)

    x, y = (torch.randint(0, vocabulary, (batch, GPT_CONTEXT)).to(device) for _ in range(2))
    return _classifier(
        torch, Decoder().to(device), x, y.view(-1), lambda parameters: torch.optim.AdamW(parameters, lr=3e-4)
    )


def lstm(torch: Any, batch: int, device: str) -> Program:
    """A character model: embedding, LSTM over 64 steps, and Adam."""
    nn = torch.nn
    characters, width, steps = 128, 256, 64

    class Model(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(characters, 128)
            self.lstm = nn.LSTM(128, width, batch_first=True)
            self.head = nn.Linear(width, characters)

        def forward(self, text: Any) -> Any:
            states, _ = self.lstm(self.embed(text))
            return self.head(states).view(-1, characters)

    x, y = (torch.randint(0, characters, (batch, steps)).to(device) for _ in range(2))
    return _classifier(
        torch, Model().to(device), x, y.view(-1), lambda parameters: torch.optim.Adam(parameters, lr=1e-3)
    )


def _classifier(torch: Any, model: Any, x: Any, y: Any, optimizer: Callable[[Any], Any]) -> Program:
    def loss(model: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    return Program(model, optimizer, loss)


WORKLOADS = {
    "tiny": Workload(32, tiny),
    "mlp": Workload(128, mlp),
    "cnn": Workload(100, cnn),
    "resnet": Workload(32, resnet),
    "gpt": Workload(8, gpt),
    "lstm": Workload(32, lstm),
}


def train_step(program: Program, model: Any, optimizer: Any) -> Any:
    """One step of training; returns the loss."""
    optimizer.zero_grad()
    loss = program.loss(model)
    loss.backward()
    optimizer.step()
    return loss
