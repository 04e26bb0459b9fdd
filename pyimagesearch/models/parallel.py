"""TODO models.parallel"""

from contextlib import AbstractContextManager, nullcontext

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pyimagesearch.runtime.distributed import Launch, world_size
from pyimagesearch.runtime.errors import UserError

# --- wrap ------------------------------------------------------------------------------------------------------------


def wrap(model: nn.Module, launch: Launch) -> nn.Module:
    """The model as the launch trains it: as it is, in nn.DataParallel, or in DistributedDataParallel."""
    if launch.parallel == "dp":
        return nn.DataParallel(model)
    if launch.parallel == "ddp":
        # broadcast_buffers: BatchNorm that is neither frozen nor synchronised keeps rank 0's statistics everywhere, so
        # that a checkpoint of rank 0 holds the whole state
        ids = [launch.device] if launch.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
    return model


def wrap_for_inference(model: nn.Module, launch: Launch) -> nn.Module:
    """The model as the launch evaluates it: several GPUs of one process share each batch by nn.DataParallel."""
    return nn.DataParallel(model) if launch.parallel == "dp" else model


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside nn.DataParallel or DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else model


def without_averaging(model: nn.Module) -> AbstractContextManager:
    """A block whose gradients stay this rank's, summed up; the next backward pass outside it averages all of them."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def refuse_threads(flag: str, launch: Launch) -> None:
    """Raise UserError, which names `flag`, where the threads of nn.DataParallel share the model."""
    if launch.parallel == "dp" and launch.devices > 1:
        raise UserError(f"{flag} needs a process a GPU, and nn.DataParallel has one for all; start with torchrun")


def for_evaluation(model: nn.Module) -> nn.Module:
    """`model` for ranks that evaluate different numbers of batches, with rank 0's BatchNorm statistics on every rank.

    DistributedDataParallel would broadcast buffers in each forward pass and wait for ranks that are done.
    """
    if not isinstance(model, DistributedDataParallel):
        return model
    for buffer in model.module.buffers():
        dist.broadcast(buffer, src=0)
    return model.module


def broadcast_state(model: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    if world_size() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
