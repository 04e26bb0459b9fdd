"""How a model is shared by devices, where one CPU can show it."""

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import SmallNet
from helpers.runs import ONE
from torch import nn
from torchvision import models

from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models import parallel
from pyimagesearch.models.batchnorm import prepare_batchnorm
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("flag", ["--compile", "--sync-bn"])
def test_what_threads_cannot_share_is_refused_where_they_share_the_model(flag):
    threads = distributed.Launch("dp", CPU, gpus=2, devices=2)
    with pytest.raises(UserError, match=f"{flag} needs one process per GPU"):
        parallel.refuse_threads(flag, threads)
    parallel.refuse_threads(flag, ONE)


@pytest.fixture(scope="module")
def launch():
    """A process group of this process alone."""
    with distributed.started("ddp") as launch:
        yield launch


@pytest.mark.parametrize(
    "settings, sent",
    [({"freeze": True}, False), ({"synchronise": True}, False), ({"freeze_backbone": True}, False), ({}, True)],
    ids=["frozen", "synchronised", "frozen backbone", "local"],
)
def test_buffers_are_sent_only_where_ranks_differ_in_them(monkeypatch, launch, settings, sent):
    calls = []
    base = prepare_batchnorm(
        models.shufflenet_v2_x0_5(weights=None), freeze=settings.get("freeze", False), rows=8, image_size=32,
        synchronise=settings.get("synchronise", False),
    )  # fmt: skip
    model = FoodClassifier(base, 2)
    if settings.get("freeze_backbone"):
        model.freeze_backbone()
    wrapped = parallel.wrap(model, launch, (3, 32, 32))
    monkeypatch.setattr(wrapped, "_sync_buffers", lambda: calls.append("forward"))
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: calls.append("evaluation"))
    wrapped(torch.zeros(2, 3, 32, 32))
    assert parallel.for_evaluation(wrapped) is model
    assert set(calls) == ({"forward", "evaluation"} if sent else set())


@pytest.mark.filterwarnings("error::FutureWarning")
def test_wrapping_uses_nothing_deprecated(launch):
    parallel.wrap(nn.Linear(2, 2), launch, (2,))


def test_replicas_on_different_gpus_draw_different_masks_and_each_step_the_same_again(monkeypatch):
    generators = tuple(torch.Generator() for _ in range(3))
    monkeypatch.setattr(torch.cuda, "default_generators", generators)
    model = nn.DataParallel(nn.Dropout())
    model.device_ids = [0, 1, 2]
    draws = []
    for seed in (2**64 - 1, 5, 5):
        parallel.seed_step(model, seed)
        draws.append([torch.rand(1).item(), *(torch.rand(1, generator=one).item() for one in generators)])
    assert draws[1] == draws[2] != draws[0]
    assert len(set(draws[0][1:])) == 3 and len(set(draws[1][1:])) == 3


@pytest.mark.parametrize("freeze", [False, True])
def test_a_compiled_model_trains_and_evaluates_under_distributeddataparallel_as_it_is(launch, freeze):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        base = prepare_batchnorm(SmallNet(), freeze=freeze, synchronise=False, rows=2, image_size=32)
        model = FoodClassifier(base, 2)
        if compiled:
            model.compile(dynamic=False, backend="aot_eager")  # all of torch.compile but the compiler
        wrapped = parallel.wrap(model, launch, (3, 32, 32))
        wrapped(images).sum().backward()
        gradient = model.classifier.weight.grad
        with torch.inference_mode():
            found.append((gradient, parallel.for_evaluation(wrapped).eval()(images[:2])))
    torch.testing.assert_close(found[1], found[0])
