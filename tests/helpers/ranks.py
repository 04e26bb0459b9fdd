"""The ranks of test_distributed.py, started by torchrun: `ranks.py DATA OUTPUT CASE ...`.

Each case trains or evaluates a small network with the package's own functions and writes what the test compares.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch
from helpers.runs import NoHooks, make_run
from torch import nn
from torch.distributed.tensor import DTensor
from torchvision.models import VisionTransformer

from pyimagesearch import create_dataloaders
from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import Mixing, eval_transform, train_transform
from pyimagesearch.evaluation import evaluate
from pyimagesearch.food_classifier import FoodClassifier
from pyimagesearch.models import parallel
from pyimagesearch.models.batchnorm import prepare_batchnorm
from pyimagesearch.models.objectives import CROSS_ENTROPY, CrossEntropy
from pyimagesearch.models.sharding import memory_of_rank
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError, run
from pyimagesearch.training import loop
from pyimagesearch.training.checkpoints import to_cpu
from pyimagesearch.training.optimizer import Schedule, build_optimizer

GLOBAL_BATCH, EPOCHS = 8, 3


class Block(nn.Module):
    def __init__(self, channels: int, out: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
        )

    def forward(self, x):
        return self.layers(x)


class SmallNet(nn.Module):
    """Two blocks of a convolution with BatchNorm, and a `.classifier` that FoodClassifier replaces.

    As in torchvision, a convolution before BatchNorm has no bias: its gradient would be mere rounding, and Adam would
    take full steps along it.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(Block(3, 8), Block(8, 16))
        self.classifier = nn.Linear(16, 7)

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


def train(
    data, output, launch, batchnorm: str, name: str = "", *, flags=(), objective=CROSS_ENTROPY, sides=(), mixing=None,
    shares="equal", workers: int = 0, slow: float = 0,
):  # fmt: skip
    """`name` is that of the files; `flags` are train_distributed.py's; rank 0 is `slow`, in seconds per photo."""
    name = name or batchnorm
    torch.manual_seed(0)
    train_set, loader = get_dataloader(
        f"{data}/training", train_transform(32, sides=sides), GLOBAL_BATCH, seed=3, workers=workers, mixing=mixing,
        shares=shares,
    )  # fmt: skip
    _, val_loader = get_dataloader(f"{data}/validation", eval_transform(32), 4, shuffle=False, workers=0)
    frozen = batchnorm.startswith("frozen")
    base = prepare_batchnorm(SmallNet(), freeze=frozen, synchronise=batchnorm == "sync", rows=2, image_size=64)
    if slow and distributed.is_main():
        base.register_forward_pre_hook(lambda module, inputs: time.sleep(slow * len(inputs[0])))
    model = FoodClassifier(base, len(train_set.classes))
    if batchnorm == "frozen backbone":
        model.freeze_backbone()
    model = parallel.wrap(model, launch, (3, 32, 32))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    run = make_run(model, loader, output, flags=flags, launch=launch, optimizer=optimizer, objective=objective)
    losses, confusion = [], []
    for run.epoch in range(EPOCHS):
        trained = loop.train_epoch(run, loader, NoHooks())
        margins = {key: values.tolist() for key, values in run.margins.gathered().items()}
        probabilities, sample_losses = evaluate.predict_split(run.evaluated, val_loader)
        counts = torch.zeros(len(train_set.classes), len(train_set.classes), dtype=torch.int64)
        pairs = torch.tensor(val_loader.dataset.labels), torch.from_numpy(probabilities.argmax(1))
        counts.index_put_(pairs, torch.tensor(1), accumulate=True)
        losses += [trained.mean_loss, float(sample_losses.mean())]
        confusion.append(counts.tolist())
        assert trained.count == len(train_set)
    weights = parallel.model_state(run.evaluated)
    if distributed.is_main():
        torch.save(weights, f"{output}/{name}.pth")
        with open(f"{output}/{name}.json", "w") as file:
            json.dump({"losses": losses, "confusion": confusion, "margins": margins}, file)
    return run


def frozen_and_synchronised(data, output, launch):
    train(data, output, launch, "frozen")
    train(data, output, launch, "sync")
    train(data, output, launch, "frozen backbone")


def resumed(data, output, launch):
    """Train three epochs, and again from the checkpoint after five steps in a process group's next model.

    The network has enough elements for several ring segments, of which each sums the ranks' values in another order.
    """

    def begin():
        torch.manual_seed(0)
        train_set, loader = get_dataloader(f"{data}/training", train_transform(32), GLOBAL_BATCH, seed=3, workers=0)
        base = nn.Sequential(*(nn.Sequential(nn.Conv2d(c, 24, 3, bias=False), nn.BatchNorm2d(24), nn.ReLU())
                               for c in (3, 24, 24)), nn.Flatten(), nn.Linear(24 * 26 * 26, 7))  # fmt: skip
        base = prepare_batchnorm(base, freeze=True, synchronise=False, rows=2, image_size=32)
        model = parallel.wrap(FoodClassifier(base, len(train_set.classes)), launch, (3, 32, 32))
        optimizer = torch.optim.Adam(model.parameters())
        flags = ["--epochs", str(EPOCHS), *(["--ema", "0.9"] if launch.parallel != "fsdp" else [])]
        schedule = Schedule("cosine", optimizer, steps=loader.batch_sampler.steps, epochs=EPOCHS, warmup=0.5)
        return loader, make_run(
            model, loader, output, flags=flags, launch=launch, optimizer=optimizer, scheduler=schedule
        )

    loader, whole = begin()
    kept = []

    def keep(done, running):
        if (whole.epoch, done) == (1, 1):
            kept.append(to_cpu(whole.state(done, running.read())))

    for whole.epoch in range(EPOCHS):
        whole.totals, whole.step = None, 0
        loop.train_epoch(whole, loader, NoHooks(keep))
    loader, again = begin()
    again.load(distributed.broadcast_object(kept[0] if distributed.is_main() else None))
    while again.epoch < EPOCHS:
        loop.train_epoch(again, loader, NoHooks())
        again.epoch, again.step, again.totals = again.epoch + 1, 0, None
    ends = ([*run.model.parameters(), *run.evaluated.parameters()] for run in (whole, again))
    differing = sum(not torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert not differing, f"{differing} tensors differ"
    margins, again_margins = whole.margins.gathered(), again.margins.gathered()
    assert all(torch.equal(margins[name], again_margins[name]) for name in margins), "margins differ"


class LacksMemory(nn.Module):
    """In training's step `when` its backward pass on rank 1, 0 if alone, lacks memory. One bucket is sent by then."""

    def __init__(self, when: int):
        super().__init__()
        self.when, self.passes = when, 0
        self.rank = min(1, distributed.world_size() - 1)

    def forward(self, x):
        self.passes += self.training
        if self.training and self.passes == self.when and distributed.rank() == self.rank:
            x.register_hook(self.fail)
        return x

    def fail(self, gradient):
        raise torch.OutOfMemoryError("simulated")


def short_of_memory(data, output, launch):
    """Train an epoch in which a rank lacks memory in step 4, and one whose batches are in two parts from step 4 on."""
    parallel.SHORT_OF_MEMORY = ("cpu",)
    runs = []
    for when in (4, 0):
        torch.manual_seed(0)
        train_set, loader = get_dataloader(f"{data}/training", train_transform(32), 6, seed=3, workers=0)
        base = nn.Sequential(
            nn.Conv2d(3, 24, 3, bias=False), nn.BatchNorm2d(24), LacksMemory(when), nn.Flatten(),
            nn.Linear(24 * 30 * 30, 24), nn.Dropout(), nn.Linear(24, 7),
        )  # fmt: skip
        base = prepare_batchnorm(base, freeze=True, synchronise=False, rows=2, image_size=32)
        base[2].passes = 0  # torch.fx made one
        model = parallel.wrap(FoodClassifier(base, len(train_set.classes)), launch, (3, 32, 32))
        run = make_run(model, loader, output, launch=launch, optimizer=torch.optim.Adam(model.parameters()))
        hooks = NoHooks()
        if when == 0:
            hooks = NoHooks(lambda done, _, run=run: setattr(run.args, "accumulate", 1 if done < 3 else 2))
        loop.train_epoch(run, loader, hooks)
        runs.append(run)
    pairs = zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True)
    differing = sum(not torch.equal(one, other) for one, other in pairs)
    assert not differing, f"{differing} tensors differ"
    assert runs[0].args.accumulate == runs[0].state()["config"]["parts_for_memory"] == 2
    assert distributed.world_size() == 1 or len(runs[0].model.reductions.buffers) > 1
    before = {name: tensor.clone() for name, tensor in runs[1].model.state_dict().items()}
    parallel.unwrap(runs[1].model).register_forward_pre_hook(fits_two_photos)
    assert parallel.parts_that_fit(runs[1].model, torch.zeros(7, 3, 32, 32), moments=2) == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in runs[1].model.state_dict().items())
    local = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 30 * 30, 7))
    model = parallel.wrap(local, launch, (3, 32, 32))  # which broadcasts statistics in each forward pass
    local.register_forward_pre_hook(fits_two_photos)
    mine = 7 if distributed.is_main() else 6 * (distributed.rank() == 1)  # of three ranks, one has no photos
    assert parallel.parts_that_fit(model, torch.zeros(mine, 3, 32, 32), moments=2) == 4


def fits_two_photos(module, inputs):
    if len(inputs[0]) > 2 and distributed.rank() == min(1, distributed.world_size() - 1):
        raise torch.OutOfMemoryError("simulated")


def optimizer_flags(name: str, lr: float, weight_decay: float) -> SimpleNamespace:
    """What build_optimizer reads of resolved flags."""
    return SimpleNamespace(
        optimizer=name, lr=lr, weight_decay=weight_decay, backbone_lr=1.0, lr_batch_size=1, global_batch_size=1
    )


def sharded(data, output, launch):
    """The cases above under FSDP."""
    launch = replace(launch, parallel="fsdp")
    train(data, output, launch, "frozen", "fsdp frozen")
    train(data, output, launch, "sync", "fsdp sync")
    train(data, output, launch, "frozen backbone", "fsdp frozen backbone")
    flags = ["--accumulate", str(distributed.world_size()), "--clip-norm", "0.5"]
    train(data, output, launch, "frozen", "fsdp weighted", flags=flags, objective=WEIGHTED)
    resumed(data, output, launch)


def interchanged(data, output, launch):
    """Train under DistributedDataParallel and FSDP. Three ranks go on from where two stood, each from the other's."""
    for under, other in (("ddp", "fsdp"), ("fsdp", "ddp")):
        torch.manual_seed(0)
        train_set, loader = get_dataloader(f"{data}/training", train_transform(32), GLOBAL_BATCH, seed=3, workers=0)
        base = prepare_batchnorm(SmallNet(), freeze=True, synchronise=False, rows=2, image_size=64)
        # as build_model lays it out; FSDP lays it out otherwise, and fused optimizers assume that all is laid out alike
        model = FoodClassifier(base, len(train_set.classes)).to(memory_format=torch.channels_last)
        model = parallel.wrap(model, replace(launch, parallel=under), (3, 32, 32))
        optimizer = build_optimizer(optimizer_flags("sgd", 0.05, 0.01), model)
        run = make_run(model, loader, output, launch=launch, optimizer=optimizer)

        def keep(done, running, run=run, under=under):
            if (run.epoch, done, distributed.world_size()) == (1, 1, 2):
                state = run.state(done, running.read())
                if distributed.is_main():
                    torch.save(to_cpu(state), f"{data}/{under}.pt")

        if distributed.world_size() == 3:
            run.load(torch.load(f"{data}/{other}.pt", weights_only=True))
            assert (run.epoch, run.step) == (1, 1)
        while run.epoch < EPOCHS:
            loop.train_epoch(run, loader, NoHooks(keep))
            run.epoch, run.step, run.totals = run.epoch + 1, 0, None
        # in batches of 16, of 17 photos: of three ranks, one has no batch
        _, val_loader = get_dataloader(f"{data}/validation", eval_transform(32), 16, shuffle=False, workers=0)
        probabilities, _ = evaluate.predict_split(model, val_loader)
        weights = {**parallel.model_state(model), "probabilities": torch.from_numpy(probabilities)}
        if distributed.is_main():
            torch.save(weights, f"{output}/interchanged {under}.pth")


def held(data, output, launch):
    """Write the bytes that this rank holds of a small transformer after a backward pass, and what is planned."""
    found = {}
    for under in ("ddp", "fsdp"):
        model = VisionTransformer(
            image_size=32, patch_size=16, num_layers=4, num_heads=2, hidden_dim=64, mlp_dim=256, num_classes=7
        )
        planned = memory_of_rank(model, distributed.world_size(), "adam", sharded=under == "fsdp")
        model = parallel.wrap(model, replace(launch, parallel=under), (3, 32, 32))
        optimizer = build_optimizer(optimizer_flags("adam", 0.01, 0.0), model)
        for _ in range(2):  # the state of the optimizer comes with its first step
            model(torch.ones(2, 3, 32, 32)).square().sum().backward()
            optimizer.step()
        parameters = list(model.parameters())
        found[under] = {
            "planned": planned,
            "parameters": bytes_here(parameters),
            "gradients": bytes_here([parameter.grad for parameter in parameters]),
            "optimizer state": bytes_here(
                [tensor for one in optimizer.state.values() for name, tensor in one.items() if name != "step"]
            ),
        }
    with open(f"{output}/held-{distributed.rank()}.json", "w") as file:
        json.dump(found, file)
    overflow(model, optimizer)


def bytes_here(tensors) -> int:
    """The bytes of the tensors, or of this rank's parts of them."""
    return sum((tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes for tensor in tensors)


def overflow(model, optimizer):
    """A gradient that overflows float16 in one rank's part makes every rank skip the step."""
    before = [parameter.to_local().clone() for parameter in model.parameters()]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer.zero_grad()
    scaler.scale(model(torch.ones(2, 3, 32, 32)).sum()).backward()
    if distributed.rank() == distributed.world_size() - 1:
        next(part for one in model.parameters() if (part := one.grad.to_local()).numel()).fill_(float("inf"))
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2
    assert all(torch.equal(one, two.to_local()) for one, two in zip(before, model.parameters(), strict=True))


# weights of 1, 2 and 4 for classes 0, 1, 2: so unequal that no mean is correct by chance
WEIGHTED = CrossEntropy(label_smoothing=0.1, class_weights=np.array([1.0, 2.0, 4.0]))


def accumulated(data, output, launch):
    """The same with as many accumulated parts as there are ranks; the last global batch has one photo."""
    parts = ["--accumulate", str(distributed.world_size())]
    train(data, output, launch, "frozen", "accumulated", flags=parts)
    train(data, output, launch, "frozen", "weighted", flags=[*parts, "--clip-norm", "0.5"], objective=WEIGHTED)
    train(data, output, launch, "sync", "sync in parts", flags=["--accumulate", "3"])


def averaged(data, output, launch):
    """The moving average of the weights, and of BatchNorm's statistics, where each rank has its own of its rows."""
    train(data, output, launch, "frozen", "averaged", flags=["--ema", "0.9"])
    train(data, output, launch, "sync", "sync averaged", flags=["--ema", "0.9"])
    torch.manual_seed(0)
    _, loader = get_dataloader(f"{data}/training", train_transform(32), 2 * GLOBAL_BATCH, seed=3, workers=0)
    _, val_loader = get_dataloader(f"{data}/validation", eval_transform(32), 4, shuffle=False, workers=0)
    model = parallel.wrap(FoodClassifier(SmallNet(), 3), launch, (3, 32, 32))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    run = make_run(model, loader, output, flags=["--ema", "0.9"], launch=launch, optimizer=optimizer)
    loop.train_epoch(run, loader, NoHooks())
    own = next(tensor for name, tensor in run.evaluated.named_buffers() if name.endswith("running_mean")).clone()
    evaluate.predict_split(run.evaluated, val_loader)
    everyones = distributed.gather_objects([tensor.numpy() for tensor in run.evaluated.state_dict().values()])
    assert all(
        np.array_equal(one, other) for ranks in everyones for one, other in zip(ranks, everyones[0], strict=True)
    )
    owns = distributed.gather_objects(own.numpy())
    assert distributed.world_size() == 1 or not np.array_equal(owns[0], owns[1])


def mixed(data, output, launch):
    """CutMix and Mixup on photos that grow; from three ranks on, shares begin and end inside a pair."""
    options = {"sides": (16, 24), "mixing": Mixing("both", 0.7), "objective": WEIGHTED}
    train(data, output, launch, "frozen", "mixed frozen", **options)
    train(data, output, launch, "sync", "mixed sync", **options)
    shares = [4.0, 1.0, 2.0][: distributed.world_size()]
    train(data, output, launch, "frozen", "mixed, unequal", shares=shares, workers=1, **options)


def paced(data, output, launch):
    """Rank 0 is slow: its share becomes smaller, from a step on that no worker has read for, and stays so."""
    if distributed.world_size() == 1:
        assert not create_dataloaders.Shares("auto").auto
        return
    create_dataloaders.CORRECT_EVERY = 2
    run = train(data, output, launch, "frozen", "paced", shares="auto", workers=2, slow=0.02)
    shares = run.sampler.shares
    assert distributed.gather_objects(shares.plan) == [shares.plan] * distributed.world_size()
    assert shares.plan[1][0] == 2 + create_dataloaders.PREFETCH * 2
    assert 2 * shares.plan[-1][1][0] < shares.plan[-1][1][1]
    state = run.state()["shares"]
    again = create_dataloaders.Shares("auto")
    again.load(*state)
    assert [again.at(step) for step in range(12)] == [shares.at(step) for step in range(12)]
    other = create_dataloaders.Shares("auto")
    other.load(state[0], [*state[1], 1.0])  # of one rank more
    assert other.plan == [(0, [10**6] * distributed.world_size())]


def samples(data, output, launch):
    """Write which photos this rank gets in each step of two epochs."""
    _, loader = get_dataloader(f"{data}/training", train_transform(32), GLOBAL_BATCH, seed=3, workers=1)
    sampler = loader.batch_sampler
    for epoch in (0, 1):
        shares = [[key.index for key in keys] for keys in sampler]
        with open(f"{output}/epoch{epoch}-rank{distributed.rank()}.json", "w") as file:
            json.dump(shares, file)


def unreadable(data, output, launch):
    """Train on photos of which one rank cannot read one."""
    train(data, output, launch, "frozen")


def not_finite(data, output, launch):
    """An infinite loss on the last rank, in step 2 (counted from 0) of the first epoch."""
    _, loader = get_dataloader(f"{data}/training", train_transform(32), GLOBAL_BATCH, seed=3, workers=0)
    running = loop.RunningTotals(launch.device)
    last = distributed.rank() == distributed.world_size() - 1
    for step in range(4):
        loss = torch.tensor(float("inf") if last and step == 2 else 1.0)
        running.add(step, loss, torch.tensor(1), 1)
    try:
        running.read()
    except loop.NonFiniteLoss as error:
        with distributed.failing_together():
            raise UserError(loop.non_finite_message(error.step, 0, loader, output)) from None


def compared(data, output, launch):
    """Write what comparing the ranks says where rank 1 differs: {case: the error, "" if this rank had none}."""
    number, said = distributed.rank(), {}

    def note(case: str, compare, *arguments) -> None:
        try:
            compare(*arguments)
        except (UserError, SystemExit) as error:
            said[case] = str(error)

    own = argparse.Namespace(data=number, output=number, workers=number, quiet=not number, cache_dir=number, lr=0.1)
    note("places", distributed.check_same_start, own)
    note("flags", distributed.check_same_start, argparse.Namespace(lr=0.1 + number, seed=number, weight_decay=0.0))
    distributed.__version__ = f"1.{number}"
    note("version", distributed.check_same_start, own)
    for case in sorted(os.listdir(data)):
        folder = f"{data}/{case}/{number}/training"
        note(case, lambda folder=folder: get_dataloader(folder, eval_transform(32), 4, workers=0))
    with open(f"{output}/rank{number}.json", "w") as file:
        json.dump(said, file)


def main() -> None:
    data, output, *cases = sys.argv[1:]
    torch.set_num_threads(1)
    with distributed.started("ddp") as launch:
        for case in cases:
            CASES[case](data, output, launch)


ALL = (
    frozen_and_synchronised, accumulated, averaged, mixed, paced, samples, resumed, sharded, interchanged, held,
    unreadable, not_finite, compared, short_of_memory,
)  # fmt: skip
CASES = {case.__name__: case for case in ALL}

if __name__ == "__main__":
    run(main)
