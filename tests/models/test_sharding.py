"""The blocks of torchvision's networks, their recomputation, and the plan of a rank's memory, in one process."""

import sys
from dataclasses import replace

import pytest
import torch
from helpers.ranks import SmallNet
from helpers.runs import ONE
from torch import nn
from torchvision import models

import train_distributed
from pyimagesearch.models.batchnorm import freeze_batchnorm
from pyimagesearch.models.parallel import refuse_threads
from pyimagesearch.models.sharding import (
    activation_bytes,
    memory_of_rank,
    parameters_without_memory,
    recompute_blocks,
    repeated_blocks,
)
from pyimagesearch.runtime.errors import UserError


@pytest.mark.parametrize(
    "name, kinds",
    [
        ("resnet18", {"BasicBlock": 8}),
        ("densenet121", {"_DenseBlock": 4}),
        ("vit_b_16", {"EncoderBlock": 12}),
        ("convnext_tiny", {"CNBlock": 18}),
        ("regnet_y_400mf", {"ResBottleneckBlock": 16}),
        ("swin_t", {"SwinTransformerBlock": 12, "PatchMerging": 3}),
        ("efficientnet_b0", {"MBConv": 16}),
        ("vgg11", {}),
    ],
)
def test_the_blocks_of_a_network_are_its_repeated_parts(name, kinds):
    with parameters_without_memory():
        model = models.get_model(name, weights=None)
    blocks = repeated_blocks(model)
    assert {kind: [type(block).__name__ for block in blocks].count(kind) for kind in kinds} == kinds
    assert len(blocks) == sum(kinds.values())


def step_of(model: nn.Module) -> tuple[list, list[int]]:
    """The gradients of a training step, and how often each block was computed."""
    counts = [0] * len(repeated_blocks(model))
    for number, block in enumerate(repeated_blocks(model)):
        first = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
        first.register_forward_hook(lambda *_, number=number: counts.__setitem__(number, counts[number] + 1))
    torch.manual_seed(1)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()], counts


def test_recomputed_blocks_have_the_same_gradients_and_names():
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = freeze_batchnorm(SmallNet())
        model.features.insert(1, nn.Dropout())
        names = list(model.state_dict())
        if recompute:
            recompute_blocks(model)
        assert list(model.state_dict()) == names
        found.append(step_of(model))
    assert (found[0][1], found[1][1]) == ([1, 1], [2, 2])
    for one, other in zip(found[0][0], found[1][0], strict=True):
        assert one is other is None or torch.equal(one, other)


def test_recomputation_is_refused_where_it_would_change_statistics_or_has_nothing_to_do():
    with pytest.raises(UserError, match="BatchNorm's statistics; add --freeze-bn"):
        recompute_blocks(SmallNet())
    with pytest.raises(UserError, match="finds no blocks in AlexNet"):
        recompute_blocks(models.alexnet(weights=None))
    with pytest.raises(UserError, match="--activation-checkpointing needs one process per GPU"):
        refuse_threads("--activation-checkpointing", replace(ONE, parallel="dp", devices=2))


class Pair(nn.Module):
    """Keeps 5 floats of each row: its input, which has 2, and what goes into the second layer, which has 3."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.second(self.first(x) * 1.0)


def test_planned_activations_are_the_tensors_that_the_backward_pass_needs():
    model = nn.Sequential(Pair(), Pair(), Pair())
    images = torch.ones(10, 2)
    kept = 3 * 5 * 10 * 4  # of three blocks, in ten rows of float32
    assert activation_bytes(model, images) == kept
    assert activation_bytes(model, images, recompute=True) == 3 * 2 * 10 * 4 + kept // 3
    assert activation_bytes(model.requires_grad_(False), images) == 0


def test_the_plan_divides_parameters_gradients_and_optimizer_state_by_the_ranks():
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 3, bias=False)).requires_grad_(False)
    model[1].requires_grad_(True)
    whole = memory_of_rank(model, 2, "adam", sharded=False)
    assert whole == {"parameters": 56 * 4, "gradients": 24 * 4, "optimizer state": 48 * 4, "gathered": 0}
    split = memory_of_rank(model, 2, "sgd", sharded=True)  # of three rows, the first rank has two
    assert (split["parameters"], split["gradients"], split["optimizer state"]) == (32 * 4, 16 * 4, 16 * 4)


def test_the_plan_of_a_large_model_is_printed_without_data_processes_and_its_memory(capsys, monkeypatch):
    flags = "--plan --data nowhere --model vit_h_14 --nproc 8 --batch-size 1"
    monkeypatch.setattr(sys, "argv", ["train_distributed.py", *flags.split()])
    assert train_distributed.main() == 0
    rows = {line.split("  ")[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()[2:]}
    parameters = 632e6 * 4 / 2**30
    assert [float(cell) for cell in rows["parameters"]] == pytest.approx([parameters, parameters / 8], rel=0.03)
    assert [float(cell) for cell in rows["optimizer state"]] == pytest.approx(
        [2 * parameters, parameters / 4], rel=0.03
    )
    assert float(rows["sum"][1]) < float(rows["sum"][0]) / 3
