"""A training step on synthetic input: the tutorial's, this project's, timm's, and the bare model's.

    python benchmarks/train_step.py --json step.json
    python benchmarks/train_step.py --contenders ours-unfolded ours-frozen --model resnet50
    python benchmarks/train_step.py --batch-sizes 128 256 512 1024 --profile       # on a GPU

Images and labels are on the device before the measurement, so that only the step is measured.
"""

import time
from functools import partial
from types import SimpleNamespace

import measuring

CLASSES = 11
OURS = {"ours": [], "ours-frozen": ["--freeze-bn"], "ours-compiled": ["--compile"]}  # flags of train_distributed.py
NAMES = ("tutorial", *OURS, "ours-unfolded", "bare", "timm")


def build_tutorial(size: int):
    import torch
    import tutorial

    loop = tutorial.Training(CLASSES)
    loop.model.train()
    return _measuring(loop.step, size, tutorial.DEVICE, torch.contiguous_format)


def build_ours(size: int, *flags: str, layout=None):
    """The model and the step of train_distributed.py with these flags, from scratch.

    layout : memory format of the model and the images; None is channels_last, which the script has
    """
    import torch

    from pyimagesearch.food_classifier import build_model
    from pyimagesearch.runtime import distributed
    from pyimagesearch.training import loop
    from pyimagesearch.training.optimizer import build_optimizer
    from pyimagesearch.training.options import resolve, training_options

    launch = distributed.start("none")
    args = resolve(training_options(["--weights", "none", "--image-size", str(size), *flags]), launch, None)
    loader = SimpleNamespace(  # what build_model asks of a loader
        dataset=SimpleNamespace(classes=range(CLASSES)), batch_sampler=SimpleNamespace(fewest_rows=lambda *_: 2)
    )
    model = build_model(args, launch, loader, pretrained=True).train()
    if layout is not None:
        model.to(memory_format=layout)
    optimizer = build_optimizer(args, model)
    scaler = torch.amp.GradScaler(launch.device.type, enabled=args.amp == "fp16")
    running = loop.RunningTotals(launch.device)

    def step(images, labels):
        loss, correct = loop.train_step(model, images, labels, len(labels), optimizer, scaler)
        running.add(0, loss, correct, len(labels))

    return _measuring(step, size, launch.device, layout)


def build_unfolded(size: int, *flags: str):
    """As ours-frozen, with BatchNorm frozen and not folded into the convolutions."""
    from pyimagesearch.models import batchnorm

    batchnorm.fold_batchnorm = batchnorm.freeze_batchnorm
    return build_ours(size, *OURS["ours-frozen"], *flags)


def build_bare(size: int):
    """torchvision's DenseNet121 in bfloat16 and channels_last, cross entropy, fused Adam, and nothing else."""
    import torch
    from torchvision.models import densenet121

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = densenet121(num_classes=CLASSES).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(images, labels):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return _measuring(step, size, device)


def build_timm(size: int):
    import timm_train

    loop = timm_train.Training(CLASSES)
    loop.model.train()
    return _measuring(loop.step, size, timm_train.DEVICE)


def contender(name: str, size: int, model: str = "densenet121") -> measuring.Contender:
    """One of NAMES in its own process, to be called with a batch size and a number of steps.

    model : the network of ours; the others have DenseNet121
    """
    if name in OURS:
        return measuring.Contender(build_ours, size, *OURS[name], "--model", model)
    if name == "ours-unfolded":
        return measuring.Contender(build_unfolded, size, "--model", model)
    return measuring.Contender({"tutorial": build_tutorial, "bare": build_bare, "timm": build_timm}[name], size)


def _measuring(step, size: int, device, layout=None):
    """A function measure(batch, steps, profiled) that returns images/s and, on a GPU, peak memory; or the profile.

    layout : memory format of the images; None is channels_last
    """
    import torch

    gpu = torch.cuda.is_available()

    def run(steps, images, labels) -> float:
        begin = time.perf_counter()
        for _ in range(steps):
            step(images, labels)
        if gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def measure(batch: int, steps: int, profiled: bool = False):
        generator = torch.Generator(device).manual_seed(0)
        images = torch.randn(batch, 3, size, size, generator=generator, device=device)
        images = images.contiguous(memory_format=layout or torch.channels_last)
        labels = torch.randint(CLASSES, (batch,), generator=generator, device=device)
        run(2, images, labels)
        if profiled:
            with torch.profiler.profile() as profile:
                run(steps, images, labels)
            key = "self_device_time_total" if gpu else "self_cpu_time_total"
            return {"table": profile.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60)}
        if gpu:
            torch.cuda.reset_peak_memory_stats()
        found = {"images_per_s": batch * steps / run(steps, images, labels)}
        if gpu:
            found["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
            torch.cuda.empty_cache()
        return found

    return measure


def main() -> None:
    parser = measuring.parser("A training step on synthetic input.", NAMES, slow=["ours-compiled", "ours-unfolded"])
    parser.add_argument("--batch-sizes", nargs="+", type=measuring.size(), default=[32], metavar="N")
    parser.add_argument("--image-size", type=measuring.size(32), default=224, metavar="PIXELS")
    parser.add_argument("--model", default="densenet121", metavar="NAME", help="the network of ours (%(default)s)")
    parser.add_argument("--steps", type=measuring.size(), default=5, metavar="N", help="per measurement (%(default)s)")
    parser.add_argument("--profile", action="store_true", help="also print the time of our step by operation")
    args = parser.parse_args()
    report = measuring.Report(args)
    names = measuring.present(args.contenders)
    for batch in args.batch_sizes:

        def measure(name: str, *more, batch=batch) -> measuring.Round:
            return measuring.once(contender(name, args.image_size, args.model), batch, args.steps, *more)

        rounds = measuring.interleave({name: partial(measure, name) for name in names}, args.rounds, warmups=0)
        more = {"batch": batch}
        if args.profile:
            more["profile"] = measure("ours", True)["table"]
            print(f"\n{more['profile']}")
        title = f"Training step, batch {batch}, {args.image_size} px"
        report.add(title, rounds, "images_per_s", names[0], **more)


if __name__ == "__main__":
    main()
