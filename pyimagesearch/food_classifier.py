"""FoodClassifier: a backbone and a linear layer for the classes; built to train, and loaded to predict."""

import functools
import math
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from pyimagesearch import config
from pyimagesearch.data.transforms import growing_sides
from pyimagesearch.models.backbones import drop_auxiliary_heads, head_name, make_backbone
from pyimagesearch.models.batchnorm import freeze_batchnorm, prepare_batchnorm, takes_statistics
from pyimagesearch.models.parallel import parts_that_fit, refuse_threads, replicas, wrap
from pyimagesearch.models.sharding import activation_bytes, memory_of_rank, parameters_without_memory, recompute_blocks
from pyimagesearch.models.weights import build_backbone, read_state_dict, with_versions
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.terminal import info, table

# the dtype of autocast for each --amp; None: float32, without autocast
AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": None, "off": None}
# what "auto" tries, in this order, by what a model was trained in; fp16 has not the range of the others
AUTO = {"bf16": ("bf16",), "fp16": ("fp16", "bf16"), "tf32": ("tf32",), "off": ()}


def autocast_forward(forward):
    """Run a module's `forward` under autocast in the module's `amp_dtype`.

    On the method itself, because the threads of nn.DataParallel do not inherit the caller's autocast.
    """

    @functools.wraps(forward)
    def wrapper(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            return forward(self, x)

    return wrapper


class FoodClassifier(nn.Module):
    """A backbone without its classifier, and a linear layer for the classes.

    baseModel : a torchvision network, or another whose last layer makes its logits; nn.Identity takes its place
    numClasses : the number of logits
    amp_dtype : attribute; the dtype of forward's autocast, None for float32
    """

    def __init__(self, baseModel: nn.Module, numClasses: int):
        super().__init__()
        self.baseModel = baseModel
        drop_auxiliary_heads(baseModel)
        name = head_name(baseModel)
        head = baseModel.get_submodule(name)
        # squeezenet's head is a convolution with the pooling behind it, which then pools what the head was to see
        features: Any = head.in_channels if isinstance(head, nn.Conv2d) else head.in_features
        self.classifier = nn.Linear(features, numClasses)
        baseModel.set_submodule(name, nn.Identity())
        self.amp_dtype: torch.dtype | None = None
        self._backbone_frozen = False

    @autocast_forward
    def forward(self, x: Tensor) -> Tensor:
        """The logits, (rows, numClasses), of normalised images, float of shape (rows, channels, height, width)."""
        with torch.no_grad() if self._backbone_frozen else nullcontext():
            features = self.baseModel(x)
        return self.classifier(features)

    def freeze_backbone(self) -> None:
        """Train the classifier alone: the backbone stays in evaluation mode, without gradients or kept activations."""
        self._backbone_frozen = True
        self.baseModel.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "FoodClassifier":
        super().train(mode)
        if self._backbone_frozen:
            self.baseModel.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args, **settings):
        return super().load_state_dict(with_versions(self, state_dict), *args, **settings)


def build_model(args, launch: distributed.Launch, trainLoader, *, pretrained: bool) -> nn.Module:
    """The model that trains, on its device and wrapped for it; see train_distributed.py.

    args : resolved, see training.options.resolve
    pretrained : False leaves --weights out, for a run whose checkpoint brings all of them
    """
    torch.manual_seed(args.seed)
    weights = args.weights if pretrained else "none"
    baseModel = distributed.main_first(  # rank 0 downloads, the others find the file
        lambda: build_backbone(
            args.model, weights, image_size=args.image_size, channels=args.channels, partial=args.partial_weights
        )
    )
    rows = trainLoader.batch_sampler.fewest_rows(args.accumulate, replicas(launch))
    smallest = min([args.image_size, *growing_sides(args.image_size, args.grow_from, args.epochs)])
    with distributed.failing_together():
        if args.sync_bn:
            refuse_threads("--sync-bn", launch)
        if args.activation_checkpointing:
            refuse_threads("--activation-checkpointing", launch)
        if args.compile:
            refuse_threads("--compile", launch)
            if launch.parallel == "fsdp":
                raise UserError("--compile does not go with --parallel fsdp; leave one of the two out")
            check_compiler(launch.device, rows)
        baseModel = prepare_batchnorm(
            baseModel, freeze=args.freeze_bn, synchronise=args.sync_bn, image_size=smallest, rows=rows
        )
        if args.shares == "auto" and takes_statistics(baseModel):
            raise UserError(
                "--shares auto would change of how many photos BatchNorm takes its statistics; add --freeze-bn, or "
                "leave it out"
            )
        if args.activation_checkpointing:
            recompute_blocks(baseModel)
    model = FoodClassifier(baseModel, len(trainLoader.dataset.classes))
    set_precision(model, args.amp)
    torch.backends.cudnn.benchmark = True  # training repeats few shapes, so a search for the fastest kernels pays
    if args.freeze_backbone:
        model.freeze_backbone()
    # FSDP moves it to the device in parts
    model = model.to("cpu" if launch.parallel == "fsdp" else launch.device).to(memory_format=torch.channels_last)
    image_shape = args.channels, args.image_size, args.image_size
    wrapped = wrap(model, launch, image_shape)
    if args.compile:
        model.compile(dynamic=False)  # the few sizes of batches are worth a kernel of their own
    if args.fit_batch:
        share = max(trainLoader.batch_sampler.sizes(0))
        images = torch.zeros(share, *image_shape, device=launch.device).to(memory_format=torch.channels_last)
        parts = parts_that_fit(wrapped, images, moments=(1 if args.optimizer == "sgd" else 2) + bool(args.ema))
        args.accumulate = max(parts, args.parts_for_memory)
        info(f"computing {math.ceil(share / args.accumulate)} photos at a time in each process: the most that fits...")
    return wrapped


def freezes_batchnorm(args) -> bool:
    """Whether flags freeze BatchNorm: pretrained statistics are those of other batches, and better ones."""
    return args.freeze_backbone or (args.weights != "none" if args.freeze_bn is None else args.freeze_bn)


def print_plan(args) -> None:
    """Print the memory that each of --nproc ranks needs under ddp and under fsdp. Nothing is loaded or computed."""
    ranks, amp = args.nproc or 1, "bf16" if args.amp == "auto" else args.amp
    rows = args.batch_size or config.LOCAL_BATCH_SIZE
    if args.global_batch_size:
        rows = math.ceil(args.global_batch_size / ranks / args.accumulate)
    with parameters_without_memory():
        backbone = make_backbone(args.model, args.image_size, args.channels)
        model = FoodClassifier(freeze_batchnorm(backbone) if freezes_batchnorm(args) else backbone, len(config.CLASSES))
    set_precision(model, amp)
    if args.freeze_backbone:
        model.freeze_backbone()
    with FakeTensorMode(allow_non_fake_inputs=True):  # has no memory either, and unlike the meta device autocast
        model.to_empty(device="cpu")
        images = torch.empty(rows, args.channels, args.image_size, args.image_size)
        activations = activation_bytes(model, images, recompute=args.activation_checkpointing)
        plans = [
            {**memory_of_rank(model, ranks, args.optimizer, sharded=sharded), "activations (estimate)": activations}
            for sharded in (False, True)
        ]
    for plan in plans:
        plan["sum"] = sum(plan.values())
    print(f"{args.model}, {args.image_size} px, {rows} photos at a time, --amp {amp}, --nproc {ranks}: GiB per rank")
    print(
        table([["", "ddp", "fsdp"], *([name, *(f"{plan[name] / 2**30:.2f}" for plan in plans)] for name in plans[0])])
    )


def load_classifier(path: str, card: dict) -> FoodClassifier:
    """The trained model in `path`, in evaluation mode on the CPU, as its model card describes it."""
    try:
        base = make_backbone(card["architecture"], card["image_size"], card.get("channels", 3))
    except UserError as error:
        raise UserError(f"the .json beside {path} describes no model: {error}") from None
    model = FoodClassifier(base, len(card["classes"]))
    try:
        model.load_state_dict(read_state_dict(path))
    except RuntimeError:
        raise UserError(
            f"{path} is no {card['architecture']} of {len(card['classes'])} classes, which the .json beside it "
            "describes; keep the two files of one training run together"
        ) from None
    return model.eval()


def resolve_amp(choice: str, device: torch.device, trained_in: str | None = None) -> str:
    """The precision on `device`, a key of AMP_DTYPES, for a choice of --amp.

    auto : bf16 where the hardware multiplies it, else fp16 on NVIDIA and AMD GPUs, else off
    trained_in : the precision in which the model was trained; "auto" is that, or another of no smaller range
    """
    gpu, cpu = device.type == "cuda", device.type == "cpu"
    in_hardware = {
        "bf16": torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu and _cpu_multiplies_bfloat16(),
        "fp16": gpu,
        "tf32": gpu and torch.cuda.is_tf32_supported(),
    }
    if choice == "auto":
        wanted = AUTO.get(trained_in or "", ("bf16", "fp16"))
        return next((amp for amp in wanted if in_hardware[amp]), "off")
    if choice == "fp16" and cpu:
        raise UserError("--amp fp16 needs a GPU and there is none; use bf16 or off, or resume this run on a GPU")
    if choice == "tf32" and not in_hardware["tf32"]:
        raise UserError("--amp tf32 needs an NVIDIA GPU of compute capability 8.0 or higher; use off, or leave it out")
    if choice == "bf16" and gpu and not in_hardware["bf16"]:
        raise UserError("--amp bf16 needs a GPU of compute capability 8.0 or higher, or a CPU; use fp16 or off")
    if choice == "bf16" and cpu and not in_hardware["bf16"]:
        info("this CPU emulates bfloat16, which is slower than --amp off...")
    return choice


def set_precision(model: FoodClassifier, amp: str) -> None:
    """Let `model` compute in `amp`, a key of AMP_DTYPES. Whether float32 may be TF32 is a setting of the process."""
    model.amp_dtype = AMP_DTYPES[amp]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions advise newer settings, which torch.export cannot read
        torch.backends.cuda.matmul.allow_tf32 = amp == "tf32"
        torch.backends.cudnn.allow_tf32 = amp == "tf32"  # True by default


def check_compiler(device: torch.device, rows: int) -> None:
    """Raise UserError unless torch.compile works on `device` and batches of at least `rows`.

    It needs a C++ compiler, and Triton on GPUs. Its convolutions fail on batches without rows (torch 2.14).
    """
    if rows == 0:
        raise UserError(
            "--compile needs a photo for each process in each batch, and the last batch of an epoch has too few; "
            "choose another batch size, or leave --compile out"
        )
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(1, device=device))
    except Exception as error:  # of torch._dynamo, torch._inductor, the compiler or Triton
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"torch.compile fails on this machine ({reason}); install a C++ compiler such as g++, or leave --compile "
            "out"
        ) from None


def _cpu_multiplies_bfloat16() -> bool:
    questions = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(question() for question in questions if question is not None)
