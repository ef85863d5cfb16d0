"""An arena that existed before the communicator moves into shared memory when DDP wraps the model."""

import numpy as np

from distgrad import Parameter
from distgrad.comm import get_default, run_threads
from distgrad.comm._shm import ShmCommunicator
from distgrad.nn import Module
from distgrad.optim import SGD, Optimizer
from distgrad.parallel import DistributedDataParallel
from tests.parallel.models import IN, OUT, Net, loss, values


def step(model: Module, optimizer: Optimizer, seed: int) -> None:
    """One step on a batch that is the same on every rank."""
    optimizer.zero_grad()
    loss(model(values(seed, 6, IN)), values(seed + 1, 6, OUT)).backward()
    optimizer.step()


def arrays(model: Module) -> list[np.ndarray]:
    """Copies of the parameters."""
    return [parameter.detach().numpy().copy() for parameter in model.parameters()]


def test_an_arena_of_an_optimizer_moves() -> None:
    reference = Net()
    plain = SGD(reference.parameters(), lr=0.1, momentum=0.9)
    step(reference, plain, 1)
    early = arrays(reference)
    step(reference, plain, 2)

    def check() -> None:
        group = ShmCommunicator(get_default())

        def is_shared(parameter: Parameter) -> bool:
            return group._locate(parameter.grad.numpy().reshape(-1)) != (0, 0)

        net = Net()
        optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
        step(net, optimizer, 1)  # builds the arena, in memory of this rank alone
        assert not any(map(is_shared, net.parameters()))
        model = DistributedDataParallel(net, process_group=group)
        assert all(np.array_equal(now, then) for now, then in zip(arrays(net), early, strict=True))
        step(model, optimizer, 2)  # with the momentum of the first step
        assert all(map(is_shared, net.parameters()))
        for now, want in zip(arrays(net), arrays(reference), strict=True):
            np.testing.assert_allclose(now, want, rtol=1e-5, atol=1e-6)
        group.close()

    run_threads(2, check)
