"""A short training with everything that ranks do together, and the bits that it ends with."""

import hashlib

import distgrad as dg
from distgrad import comm, nn
from distgrad.data import DataLoader, TensorDataset
from distgrad.optim import SGD
from distgrad.parallel import DistributedDataParallel, SyncBatchNorm
from tests.parallel.models import values


def train(dtype: str = "float32") -> str:
    """Train a convolutional network with SyncBatchNorm on shards of a data set: the digest of its state afterwards.

    The last batch of an epoch is uneven, so the ranks weigh their gradients, and the buckets are small enough for
    several of them.
    """
    generator = dg.Generator().manual_seed(1)
    labels = dg.randint(0, 4, (46,), generator=generator)
    data = TensorDataset(values(5, 46, 3, 8, 8), labels)
    loader = DataLoader(data, batch_size=4, shuffle=True, sharded=True, exact=True, generator=generator)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(576, 40), nn.Tanh())
    net.append(nn.Linear(40, 4))
    for number, parameter in enumerate(net.parameters()):
        with dg.no_grad():
            parameter.copy_(values(number, *parameter.shape) * 0.1)
    model = DistributedDataParallel(SyncBatchNorm.convert_sync_batchnorm(net), bucket_cap_mb=0.05)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with model.join():
        for _ in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())).hexdigest()
    everyone = comm.get_default().all_gather_object(digest)
    assert everyone == [digest] * len(everyone)
    return digest
