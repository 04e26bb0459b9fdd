"""A model on several devices: in nn.DataParallel, DistributedDataParallel or FSDP; its state, the same for all."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyimagesearch.models.batchnorm import has_local_statistics, takes_statistics
from pyimagesearch.models.sharding import gathered, shard, split_like
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.distributed import Launch, world_size
from pyimagesearch.runtime.errors import UserError, is_out_of_memory
from pyimagesearch.runtime.terminal import info

SHORT_OF_MEMORY = ("cuda",)  # the types of devices on which ranks agree in each step whether one has run out of it


def wrap(model: nn.Module, launch: Launch, image_shape: Sequence[int]) -> nn.Module:
    """The model as `launch` trains it: as it is, in nn.DataParallel or DistributedDataParallel, or split by FSDP.

    image_shape : (channels, height, width) of the images that it sees
    """
    if launch.parallel == "dp":
        if launch.gpus > 1:
            info("using nn.DataParallel; torchrun --standalone --nproc-per-node=gpu would be faster...")
        # copied weights lose channels_last (torch flattens them), but cuDNN follows the images, which keep it
        return nn.DataParallel(model)
    if launch.parallel == "ddp":
        ids = [launch.device] if launch.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
        # Statistics that differ between ranks follow rank 0's in each step, so that its checkpoint holds the whole
        # state. An attribute, because as an argument it is deprecated from torch 2.13 on.
        model.broadcast_buffers = has_local_statistics(model)
        # forward passes that communicate too are not survived: a rank that fails would leave the others waiting in it
        if launch.device.type in SHORT_OF_MEMORY and not takes_statistics(model):
            model.reductions = Reductions()  # type: ignore[assignment]
            model.register_comm_hook(model.reductions, Reductions.begin)
        _settle_buckets(model, torch.zeros(1, *image_shape, device=launch.device))
    if launch.parallel == "fsdp":
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, src=0)
        model.broadcast_buffers = has_local_statistics(model)  # type: ignore[assignment]  # see for_evaluation
        shard(model, launch.device)
    return model


def _settle_buckets(model: DistributedDataParallel, images: Tensor) -> None:
    """Take the backward pass after which DistributedDataParallel groups gradients into other buckets, and one more.

    From three ranks on, an element's place in its bucket decides in which order the ranks' values are summed. Without
    the first pass, the first step after each start would round differently, and a resumed run would end with other
    weights.
    """
    was_training = model.training
    model.eval()  # which leaves BatchNorm's statistics as they are
    for _ in range(2):  # the new buckets are seen by Reductions in the second
        model(images).sum().backward()
        model.zero_grad()
    model.train(was_training)


class Reductions:
    """DistributedDataParallel's buckets of gradients, so that a rank whose backward pass fails can go on reducing them.

    begun : of the present pass, the buffer of each bucket and its reduction; buffers : those of the last whole pass
    """

    def __init__(self) -> None:
        self.begun: list[tuple[Tensor, dist.Work]] = []
        self.buffers: list[Tensor] = []

    def begin(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """The communication hook. It computes what DistributedDataParallel does without one."""
        buffer = bucket.buffer().mul_(1 / world_size())
        self.begun.append((buffer, dist.all_reduce(buffer, async_op=True)))
        if bucket.is_last():
            self.buffers = [buffer for buffer, _ in self.begun[-bucket.index() - 1 :]]
        return self.begun[-1][1].get_future().then(lambda done: done.value()[0])

    def complete(self) -> None:
        """Do what is left of a pass that failed: the other ranks wait for it. All gradients are worthless then."""
        for buffer in self.buffers[len(self.begun) :]:
            dist.all_reduce(buffer)
        for _, work in self.begun:
            work.wait()


class OutOfMemory(Exception):
    """A rank lacked memory in a step. Every rank raises it, without gradients and ready for the next forward pass."""


@contextmanager
def agreeing_on_memory(model: nn.Module, images: Tensor) -> Iterator[None]:
    """A step's forward and backward passes. Raises OutOfMemory on every rank where one of them lacks memory."""
    reductions = getattr(model, "reductions", Reductions() if distributed.world_size() == 1 else None)
    if reductions is None:  # torch's error ends the rank that lacks memory
        yield
        return
    reductions.begun, failure = [], None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failure = str(error)  # and not the error, which holds the graph
        reductions.complete()
    if distributed.all_reduce_max(failure is not None)[0]:
        model.zero_grad()
        if isinstance(model, DistributedDataParallel):
            model._update_process_group(dist.group.WORLD)  # no public way leads out of an unfinished backward pass
            _settle_buckets(model, images.new_zeros(1, *images.shape[1:]))
        raise OutOfMemory(failure or "on another rank")


def parts_that_fit(model: nn.Module, images: Tensor, *, moments: int) -> int:
    """The fewest parts, a power of two, in which every rank has the memory for a training pass over its `images`.

    model : as `wrap` returns it, not under FSDP; what a pass changes of it is restored
    moments : values per parameter that the optimizer and an average of the weights will hold
    """
    parts = 1
    while not _all_fit(model, images.tensor_split(parts)[0], moments):
        with distributed.failing_together():
            if parts >= distributed.all_reduce_max(len(images))[0]:
                raise UserError(
                    "--batch-size auto: not even one photo at a time fits; try a smaller --image-size, or --parallel "
                    "fsdp with --activation-checkpointing"
                )
        parts *= 2
    return parts


def _all_fit(model: nn.Module, images: Tensor, moments: int) -> bool:
    """Whether no rank lacks memory for one pass over its `images`."""
    # DistributedDataParallel itself may broadcast buffers before a forward pass, and not every rank comes to that
    model = model.module if isinstance(model, DistributedDataParallel) else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state: list[Tensor] = []
    fits = True
    try:
        state += [torch.empty_like(parameter) for parameter in trained for _ in range(moments)]
        if len(images):  # a rank's share may be empty
            model(images).float().sum().backward()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        fits = False
    state.clear()
    model.zero_grad()
    for buffer, before in buffers:
        buffer.copy_(before)
    torch.cuda.empty_cache()
    return distributed.all_reduce_max(not fits)[0] == 0


def replicas(launch: Launch) -> int:
    """The devices over which one process spreads its share of a batch."""
    return launch.devices if launch.parallel == "dp" else 1


def wrap_for_inference(model: nn.Module, launch: Launch) -> nn.Module:
    """The model as `launch` evaluates it: nn.DataParallel splits each batch over the GPUs of one process."""
    return nn.DataParallel(model) if launch.parallel == "dp" else model


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside nn.DataParallel or DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, (nn.DataParallel, DistributedDataParallel)) else model


def without_averaging(model: nn.Module) -> AbstractContextManager:
    """A block in which gradients add up on each rank; the next backward pass outside it averages them over ranks."""
    # FSDP averages in each: gradients that are not averaged are whole on each rank
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def for_evaluation(model: nn.Module) -> nn.Module:
    """The model for ranks that evaluate different numbers of batches, with rank 0's buffers where ranks differ in them.

    DistributedDataParallel itself would broadcast buffers in each forward pass and wait for ranks that have finished.
    """
    if getattr(model, "broadcast_buffers", False):
        for buffer in unwrap(model).buffers():
            dist.broadcast(buffer, src=0)
    return model.module if isinstance(model, DistributedDataParallel) else model


def copy_for_evaluation(model: nn.Module, launch: Launch) -> nn.Module:
    """A copy that does not train, as `launch` evaluates it. Rank 0's buffers count where those of `model` do."""
    twin: Any = copy.deepcopy(unwrap(model)).requires_grad_(False)
    twin.broadcast_buffers = getattr(model, "broadcast_buffers", False)
    return wrap_for_inference(twin, launch)


def model_state(model: nn.Module) -> dict[str, Any]:
    """The state_dict of the model that trains, the same for any --parallel, on rank 0; every rank calls this."""
    return gathered(unwrap(model).state_dict())


def load_model_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Load what model_state returned on rank 0, on each rank."""
    model = unwrap(model)
    own = model.state_dict()
    model.load_state_dict({name: split_like(tensor, own.get(name)) for name, tensor in state.items()})


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state_dict of whole tensors, as `gathered` returns it."""

    # laid out as the parameter, which fused optimizers assume; FSDP's are not channels_last
    def fit(value: Tensor, own: Tensor) -> Tensor:
        return torch.empty_like(own).copy_(split_like(value, own)) if value.shape == own.shape else value

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    parts = {
        index: {key: fit(value, parameters[index]) for key, value in moments.items()}
        for index, moments in state["state"].items()
    }
    groups = [  # how it computes stays: it differs between --parallel
        {**saved, "fused": own["fused"], "foreach": own["foreach"]}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": parts, "param_groups": groups})


def seed_step(model: nn.Module, seed: int) -> None:
    """Seed what a step draws; each replica of nn.DataParallel draws by the generator of its GPU, and so other masks."""
    torch.manual_seed(seed)
    if isinstance(model, nn.DataParallel):
        for index in model.device_ids:
            torch.cuda.default_generators[index].manual_seed((seed + index) % 2**64)


def refuse_threads(flag: str, launch: Launch) -> None:
    """Raise UserError, naming `flag`, where the threads of nn.DataParallel share one model."""
    if replicas(launch) > 1:
        raise UserError(f"{flag} needs one process per GPU, and nn.DataParallel has one for all; start with torchrun")
