"""BatchNorm is frozen, synchronised, or refused where a batch is too small for it."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import VisionTransformer

from pyimagesearch.models.batchnorm import (
    FoldedConv2d,
    FrozenBatchNorm2d,
    SyncBatchNorm,
    fold_batchnorm,
    freeze_batchnorm,
    prepare_batchnorm,
)
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError


def convolution() -> nn.Module:
    """A network that makes a map of a 32nd of the image."""
    return nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.BatchNorm2d(4))


@pytest.mark.parametrize("freeze", [True, False])
def test_batchnorm_is_frozen_when_asked_and_else_as_it_is(freeze):
    model = prepare_batchnorm(convolution(), freeze=freeze, synchronise=False, rows=2, image_size=32)
    assert isinstance(model[1], FrozenBatchNorm2d) is freeze


def test_frozen_and_synchronised_at_once_is_refused():
    with pytest.raises(UserError, match="--sync-bn has no effect"):
        prepare_batchnorm(convolution(), freeze=True, synchronise=True, rows=2, image_size=32)


@pytest.mark.parametrize("rows, image_size, right", [(1, 32, False), (0, 224, False), (2, 32, True), (1, 64, True)])
def test_a_batch_too_small_for_statistics_is_refused_before_training(rows, image_size, right):
    settings = {"synchronise": False, "rows": rows, "image_size": image_size}
    prepare_batchnorm(convolution(), freeze=True, **settings)
    if right:
        prepare_batchnorm(convolution(), freeze=False, **settings)
        return
    with pytest.raises(UserError, match="the last batch of an epoch leaves"):
        prepare_batchnorm(convolution(), freeze=False, **settings)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_network_without_batchnorm_is_left_as_it_is(freeze):
    model = nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.Linear(1, 1))
    assert prepare_batchnorm(model, freeze=freeze, synchronise=True, rows=0, image_size=32) is model
    assert len(model) == 2 and all(parameter.requires_grad for parameter in model.parameters())


def test_images_too_small_for_the_network_are_refused_before_training():
    with pytest.raises(UserError, match="16 x 16 pixels are too small for Sequential"):
        prepare_batchnorm(convolution(), freeze=True, synchronise=False, rows=2, image_size=16)


def test_a_network_of_one_image_size_is_refused_at_another():
    vit = VisionTransformer(64, 32, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8)
    prepare_batchnorm(vit, freeze=True, synchronise=False, rows=2, image_size=64)
    with pytest.raises(UserError, match=r"32 x 32 pixels are too small for VisionTransformer;.* without --grow-from$"):
        prepare_batchnorm(vit, freeze=True, synchronise=False, rows=2, image_size=32)


# --- folded into convolutions ----------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Of its BatchNorm, `of_first` alone can be folded."""

    def __init__(self):
        super().__init__()
        for name in ("first", "read_twice", "called_twice", "plain"):
            setattr(self, name, nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"))
        for name in ("of_first", "of_read_twice", "of_called_twice", "after_relu"):
            setattr(self, name, nn.BatchNorm2d(3))
        self.classifier = nn.Linear(3, 7)

    def forward(self, x):
        x = self.of_first(self.first(x))
        y = self.read_twice(x)
        x = F.relu(self.of_read_twice(y) + y)
        x = self.of_called_twice(self.called_twice(x)) + self.called_twice(x)
        return self.classifier(self.plain(self.after_relu(F.relu(x))).mean(dim=(2, 3)))


class OnValues(Branches):
    """torch.fx cannot trace it."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


NETWORKS = {
    models.densenet121: 59, models.resnet18: 20, models.resnet50: 53, models.mobilenet_v3_small: 34,
    models.efficientnet_b0: 49, Branches: 1, OnValues: 0,
}  # fmt: skip


def drawn(network) -> nn.Module:
    """The network with statistics as after training, and no dropout."""
    torch.manual_seed(0)
    model = network()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5), nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2), nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def answers(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output and all gradients of a pass in training."""
    torch.manual_seed(1)  # dropout
    model.train().zero_grad()
    output = model(images)
    F.cross_entropy(output.float(), torch.arange(len(images))).backward()
    return {"output": output.detach(), **{name: p.grad for name, p in model.named_parameters() if p.requires_grad}}


def pixels(rows: int = 2) -> torch.Tensor:
    images = torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return images.to(memory_format=torch.channels_last)


@pytest.fixture
def float64():
    """In which what differs is no rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_folded_network_has_the_outputs_gradients_and_tensors_of_the_frozen_one(float64, network):
    plain, folded = freeze_batchnorm(drawn(network)), fold_batchnorm(drawn(network))
    assert sum(isinstance(module, FoldedConv2d) for module in folded.modules()) == NETWORKS[network]
    assert sum(getattr(module, "folded", False) for module in folded.modules()) == NETWORKS[network]
    torch.testing.assert_close(folded.state_dict(), plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(answers(folded, pixels()), answers(plain, pixels()), rtol=1e-6, atol=1e-8)


def test_weights_that_are_loaded_are_folded_also_into_a_copy(float64):
    model, other = fold_batchnorm(models.mobilenet_v3_small()), drawn(models.mobilenet_v3_small)
    duplicate, before = copy.deepcopy(model), answers(model, pixels())
    nn.ModuleDict({"inside": duplicate}).load_state_dict({f"inside.{k}": v for k, v in other.state_dict().items()})
    torch.testing.assert_close(answers(duplicate, pixels()), answers(freeze_batchnorm(other), pixels()))
    torch.testing.assert_close(answers(model, pixels()), before, rtol=0, atol=0)


def test_a_folded_network_computes_with_tensors_that_follow_it_to_another_device():
    model = fold_batchnorm(drawn(Branches)).to("meta")  # where a tensor of another device is an error
    model(pixels().to("meta")).sum().backward()
    assert model.first.weight.grad.is_meta


def test_a_folded_network_is_as_exact_in_bfloat16_as_the_frozen_one():
    expected, errors = answers(freeze_batchnorm(drawn(models.resnet18)), pixels(8)), []
    for change in (freeze_batchnorm, fold_batchnorm):
        with torch.autocast("cpu", torch.bfloat16):
            found = answers(change(drawn(models.resnet18)).to(memory_format=torch.channels_last), pixels(8))
        assert found["output"].dtype == torch.bfloat16
        errors.append({name: float((found[name] - expected[name]).norm()) for name in expected})
    assert all(errors[1][name] <= 1.5 * errors[0][name] for name in expected)


# --- synchronised over ranks -----------------------------------------------------------------------------------------


class Ranks:
    """Ranks as threads of this process: each calls the same function, and their tensors are summed."""

    def __init__(self, monkeypatch, count: int):
        self.count, self.local, self.barrier = count, threading.local(), threading.Barrier(count, timeout=60)
        self.sent: dict[int, list[torch.Tensor]] = {rank: [] for rank in range(count)}
        monkeypatch.setattr(distributed, "world_size", lambda: count)
        monkeypatch.setattr(distributed, "rank", lambda: self.local.rank)
        monkeypatch.setattr(distributed, "all_reduce_sum", self.all_reduce_sum)

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        self.sent[self.local.rank].append(values)
        self.barrier.wait()  # until all have sent
        total = torch.stack([sent[-1] for sent in self.sent.values()]).sum(0)
        self.barrier.wait()  # until all have read
        return total

    def run(self, function):
        """function(rank) on each rank; their results."""

        def of_rank(rank):
            self.local.rank = rank
            return function(rank)

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(of_rank, range(self.count)))


def noise(rows: int, dtype=torch.float32, mean: float = 3.0, sd: float = 2.0) -> torch.Tensor:
    images = torch.randn(rows, 5, 4, 3, generator=torch.Generator().manual_seed(rows)) * sd + mean
    return images.to(dtype).to(memory_format=torch.channels_last)


def new(kind) -> nn.BatchNorm2d:
    norm = kind(5)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, 5)), norm.bias.copy_(torch.linspace(-1, 1, 5))
    return norm.train()


def passed(norm, images, gradient):
    """The output for `images`, and the gradients by them and by the parameters."""
    images = images.clone().requires_grad_()
    output = norm(images)
    output.backward(gradient)
    return output.detach(), images.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shares", [(6,), (3, 3, 0), (0, 1, 5), (2, 0, 4)])
def test_ranks_normalise_their_shares_as_one_process_the_whole_batch(monkeypatch, shares, dtype):
    images, gradient = noise(6, dtype), noise(7, dtype)[:6]
    whole = new(nn.BatchNorm2d)
    expected = passed(whole, images.float(), gradient.float())
    ranks, norms = Ranks(monkeypatch, len(shares)), [new(SyncBatchNorm) for _ in shares]
    mine = list(zip(images.split(shares), gradient.split(shares), strict=True))
    found = list(zip(*ranks.run(lambda rank: passed(norms[rank], *mine[rank])), strict=True))
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 2e-2}
    for kind, parts in enumerate(found):
        together = torch.cat(parts) if kind < 2 else sum(parts)
        torch.testing.assert_close(together.float(), expected[kind], **near)
    assert {part.dtype for part in (*found[0], *found[1])} == {dtype}
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in (*found[0], *found[1]))
    for norm in norms:
        for name, value in whole.named_buffers():
            torch.testing.assert_close(norm.get_buffer(name), value)
    assert {sent.dtype for sends in ranks.sent.values() for sent in sends} == {torch.float32}
    assert len({tuple(sent.shape for sent in sends) for sends in ranks.sent.values()}) == 1


def test_a_small_variance_around_a_large_mean_is_not_lost_in_the_sums(monkeypatch):
    images = noise(6, mean=1000.0, sd=0.01)
    norms = [new(SyncBatchNorm) for _ in range(3)]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics are the batch's
    Ranks(monkeypatch, 3).run(lambda rank: norms[rank](images[2 * rank : 2 * rank + 2]))
    torch.testing.assert_close(norms[0].running_var, images.double().var(dim=(0, 2, 3)).float(), rtol=0.01, atol=0)


def test_a_single_value_leaves_finite_statistics(monkeypatch):
    norms = [new(SyncBatchNorm) for _ in range(2)]
    outputs = Ranks(monkeypatch, 2).run(lambda rank: norms[rank](noise(1)[:rank, :, :1, :1]))
    assert all(tensor.isfinite().all() for tensor in (*outputs, *norms[0].buffers(), *norms[1].buffers()))
