"""What large models need: parameters split over the ranks (FSDP), blocks that are recomputed, and what a rank holds."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from pyimagesearch.runtime.distributed import is_main, world_size
from pyimagesearch.runtime.errors import UserError


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost parts of `model` whose class occurs more than once: residual blocks, encoder layers and so on.

    Single layers are no blocks, so VGG and AlexNet have none. Nor are sequences: a stage is its blocks.
    """
    occurs = Counter(map(type, model.modules()))

    def search(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            sequence = isinstance(child, (nn.Sequential, nn.ModuleList))
            if occurs[type(child)] > 1 and [*child.children()] and not sequence:
                yield child
            else:
                yield from search(child)

    return list(search(model))


def shard(model: nn.Module, device: torch.device) -> None:
    """Move `model` to `device` and split its parameters over the ranks, block by block: no device holds the whole."""
    model.to(memory_format=torch.contiguous_format)  # FSDP takes no other; cuDNN follows the images
    # a hint for models that write into a block's output in place, as no network of torchvision does
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    mesh = init_device_mesh(device.type, (world_size(),))
    for module in (*repeated_blocks(model), model):
        fully_shard(module, mesh=mesh)


def gathered(state: Any) -> Any:
    """`state` with whole tensors, on rank 0's CPU, for those that are split; None on others. Every rank calls this."""

    def whole(tensor: DTensor) -> Tensor | None:
        full = tensor.full_tensor()
        return full.cpu() if is_main() else None

    return tree_map_only(DTensor, whole, state)


def split_like(tensor: Any, own: Any) -> Any:
    """This rank's part of `tensor`, as `own` is split over ranks; `tensor` itself where it is not."""
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor, own.device_mesh, own.placements, src_data_rank=None)


def recompute_blocks(model: nn.Module) -> None:
    """Let each block keep its input alone for the backward pass, and compute the rest again there."""
    if any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules()):
        raise UserError(
            "--activation-checkpointing would count each batch twice in BatchNorm's statistics; add --freeze-bn, or "
            "leave it out"
        )
    if not (blocks := repeated_blocks(model)):
        raise UserError(f"--activation-checkpointing finds no blocks in {type(model).__name__}; leave it out")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


# --- the plan ---


@contextmanager
def parameters_without_memory() -> Iterator[None]:
    """A block in which parameters are made on the meta device, and other tensors, which some networks need, are not."""
    hook: Any = lambda module, name, parameter: nn.Parameter(parameter.to("meta"), parameter.requires_grad)  # noqa: E731
    with register_module_parameter_registration_hook(hook):
        yield


def memory_of_rank(model: nn.Module, ranks: int, optimizer: str, *, sharded: bool) -> dict[str, int]:
    """The bytes that the rank with most of them holds, under FSDP if `sharded`, else under DistributedDataParallel."""
    tensors, parts = [*model.parameters()], ranks if sharded else 1
    shares = {parameter: -(-len(parameter) // parts) * parameter[0].nbytes for parameter in tensors}
    trained = sum(share for parameter, share in shares.items() if parameter.requires_grad)
    blocks = [sum(parameter.nbytes for parameter in block.parameters()) for block in repeated_blocks(model)]
    rest = sum(parameter.nbytes for parameter in tensors) - sum(blocks)
    return {
        "parameters": sum(shares.values()) + sum(buffer.nbytes for buffer in model.buffers()),
        "gradients": trained,
        "optimizer state": trained * (1 if optimizer == "sgd" else 2),  # momentum; Adam has two moments
        # the next block is gathered while one computes; in the backward pass each has gradients too
        "gathered": 2 * rest + 4 * max(blocks, default=0) if sharded else 0,
    }


def activation_bytes(model: nn.Module, images: Tensor, *, recompute: bool = False) -> int:
    """The bytes of what a forward pass keeps for the backward pass, parameters and buffers left out.

    Works with fake tensors too (torch's FakeTensorMode), of which nothing is computed.
    recompute : as if after recompute_blocks; the most that is kept at a time
    """
    kept, inputs, places = Counter[nn.Module](), 0, [model]
    seen = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            kept[places[-1]] += storage.nbytes()
        return tensor

    def enter(block: nn.Module, arguments: tuple) -> None:
        nonlocal inputs
        inputs += sum(tensor.nbytes for tensor in arguments if isinstance(tensor, Tensor))
        places.append(block)

    hooks = []
    for block in repeated_blocks(model):
        hooks += [block.register_forward_pre_hook(enter), block.register_forward_hook(lambda *_: places.pop() and None)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _ = model(images)  # it holds all that is kept, so that no two storages have one address
    for hook in hooks:
        hook.remove()
    outside = kept.pop(model, 0)
    return outside + (inputs + max(kept.values(), default=0) if recompute else sum(kept.values()))
