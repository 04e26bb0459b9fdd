"""Does a device compute what the CPU does, without waiting for it?"""

import json
import os
import re
import subprocess
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

import measuring
import torch
from torch.nn import functional as F
from torchvision import models

from gpu_sections.kit import ENVIRONMENT, Findings, Kit, Watch, begin, furthest, refusal, step_losses, synchronize
from pyimagesearch.create_dataloaders import get_dataloader
from pyimagesearch.data.transforms import train_transform
from pyimagesearch.food_classifier import AMP_DTYPES, FoodClassifier
from pyimagesearch.models.backbones import make_backbone
from pyimagesearch.models.batchnorm import freeze_batchnorm
from pyimagesearch.runtime import distributed
from pyimagesearch.runtime.distributed import Launch
from pyimagesearch.runtime.errors import one_line
from pyimagesearch.training.loop import train_epoch

# how far the loss of any of ten steps may be from the CPU's in float32, as a share of it
TOLERANCES = {"off": 1e-3, "tf32": 1e-2, "fp16": 2e-2, "bf16": 5e-2}
# the same for float32 in another order of summation; many of a GPU's kernels have no fixed one
EQUAL = {"cpu": 1e-4, "cuda": 1e-3}
BUFFERS = {"with buffers broadcast in each forward pass": True, "without": False}


def precision(kit: Kit) -> Findings:
    """Losses under each precision against the CPU in float32, and whether float32 is float32."""
    found = Findings()
    names, size, steps = (["resnet18"], 32, 3) if kit.quick else (["resnet18", "densenet121"], 64, 10)
    data = kit.dataset(16 * steps, size)
    for name in names:
        flags = ["--model", name, "--image-size", size, "--global-batch-size", 16, "--workers", 0]
        reference = losses(Launch("none", torch.device("cpu"), 0, 1), data, kit, *flags, "--amp", "off")
        for amp, tolerance in TOLERANCES.items():
            if reason := refusal(kit.device, amp):
                found.facts[f"{name}, --amp {amp}"] = f"refused: {reason}"
                continue
            distance = furthest(losses(kit.launch(), data, kit, *flags, "--amp", amp), reference)
            claim = f"{name}, --amp {amp}: the loss of each of {steps} steps is within {tolerance:.1%} of the CPU's"
            found.claim(claim, distance <= tolerance, f"{distance:.2e}")
            if amp == "off":
                error = float32_error(kit.device)
                found.claim("--amp off multiplies in float32, not in TF32", error < 5e-5, f"error {error:.1e}")
    return found


def losses(launch: Launch, data: Path, kit: Kit, *flags) -> list[float]:
    run, loader, _ = begin(launch, data, kit.folder, *flags)
    return step_losses(run, loader)


def float32_error(device: str) -> float:
    """The largest relative error of a convolution and a product; float32 has about 1e-6, TF32 about 1e-3."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 256, 16, 16, generator=generator, dtype=torch.float64)
    kernels = torch.randn(64, 256, 3, 3, generator=generator, dtype=torch.float64)
    errors = []
    for operation, other in ((F.conv2d, kernels), (torch.matmul, images[0])):
        exact = operation(images, other)
        rough = operation(images.float().to(device), other.float().to(device)).cpu().double()
        errors.append(float((rough - exact).abs().max() / exact.abs().max()))
    return max(errors)


def synchronisation(kit: Kit) -> Findings:
    """20 steps in which nothing may wait for the GPU."""
    found, warm, steps = Findings(), 4, 20
    data = kit.dataset(8 * (warm + steps + 2), 64)
    common = ["--model", "resnet18", "--image-size", 32, "--global-batch-size", 8, "--cache-dir", kit.folder / "cache"]
    for name, flags in {
        "the loader": ["--workers", 2],
        "--cache device": ["--cache", "device"],
        "--clip-norm": ["--clip-norm", 1, "--workers", 2],
        "--amp fp16": ["--amp", "fp16", "--workers", 2],
        "--amp fp16 --clip-norm --accumulate 2": ["--amp", "fp16", "--clip-norm", 1, "--accumulate", 2],
    }.items():
        run, loader, _ = begin(kit.launch(), data, kit.folder, *common, *flags)
        waited = first_wait(run, loader, warm, steps)
        found.claim(f"{steps} steps with {name} never wait for the GPU", not waited, waited or "none")
    return found


def first_wait(run, loader, warm: int, steps: int) -> str:
    """Where the host waits for the GPU in the `steps` steps after the first `warm` ones; empty if nowhere."""

    def after_step(done: int, running) -> None:
        if done in (warm, warm + steps):
            torch.cuda.set_sync_debug_mode("error" if done == warm else "default")

    try:
        train_epoch(run, loader, Watch(after_step))
        return ""
    except RuntimeError as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        return one_line(f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {str(error).splitlines()[0]}")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def warp(kit: Kit) -> Findings:
    """The augmentation of --cache device: its time, and its pixels against the CPU's."""
    found = Findings()
    size, batch, photos = (32, 8, 22) if kit.quick else (224, 128, 1280)
    data = kit.dataset(photos, size * 3 // 2, distinct=min(photos, 256))
    settings = {"seed": 1, "workers": 0, "cache_size": size * 8 // 7, "cache_dir": str(kit.folder / "cache")}

    def loader(cache: str, device: str):
        place = {"cache": cache, "device": torch.device(device)}
        return get_dataloader(data / "training", train_transform(size), batch, **settings, **place)[1]

    on_device = loader("device", kit.device)
    images = next(iter(on_device))[0].cpu().int()
    difference = (images - next(iter(loader("device", "cpu")))[0].int()).abs()
    share = float((difference > 1).float().mean())
    found.claim("at most 0.1 % of the values differ by more than 1 from the CPU's", share <= 1e-3, f"{share:.4%}")
    mean = float((images - next(iter(loader("disk", "cpu")))[0].int()).abs().float().mean())
    found.claim("the values differ from those of --cache disk by less than 8 in the mean", mean < 8, f"{mean:.2f}")

    def measure() -> measuring.Round:
        synchronize(kit.device)
        begin = time.perf_counter()
        whole = sum(len(labels) == batch for _, labels in on_device)
        launched = time.perf_counter() - begin
        synchronize(kit.device)
        return {"ms": 1000 * (time.perf_counter() - begin) / whole, "launch_ms": 1000 * launched / whole}

    found.rounds["warp"] = kit.take_turns({"warp": measure})
    summary = measuring.summarise(found.rounds["warp"], "ms", None)["warp"]
    found.facts[f"ms per {batch} photos"] = measuring.cell(summary["ms"])
    found.facts["of these, until the host has launched them"] = measuring.cell(summary["launch_ms"])
    return found


def empty_batches(kit: Kit) -> Findings:
    """A forward and a backward pass on an empty share, in the smallest network of each family of torchvision."""
    found, failures = Findings(), []
    names = ["resnet18", "mobilenet_v3_small"] if kit.quick else smallest_of_each_family()
    precisions = ["fp16", "bf16", "off"] if kit.gpu else ["bf16", "off"]
    for name in names:
        size = 64 if kit.quick else 224
        model = FoodClassifier(freeze_batchnorm(make_backbone(name, size)), 3)
        model = model.to(kit.device, memory_format=torch.channels_last).train()
        images = torch.randn(2, 3, size, size, device=kit.device).contiguous(memory_format=torch.channels_last)
        for amp in precisions:
            model.amp_dtype = AMP_DTYPES[amp]
            try:
                if fault := gradient_fault(model, images):
                    failures.append(f"{name} in {amp}: {fault}")
            except RuntimeError as error:
                failures.append(f"{name} in {amp}: {one_line(str(error).splitlines()[0])}")
    sentence = f"an empty share trains in {len(names)} networks, one per family, in {', '.join(precisions)}"
    found.claim(sentence, not failures, "; ".join(failures) or "all")
    return found


def gradient_fault(model: FoodClassifier, images: torch.Tensor) -> str:
    """What is wrong with the gradients of two photos, or of none of them; empty if nothing is."""
    for rows in (len(images), 0):
        model.zero_grad(set_to_none=True)
        model(images[:rows]).float().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        if any(gradient is None for gradient in gradients):
            return f"a parameter has no gradient from {rows} photos"
        if rows == 0 and any(gradient.any() for gradient in gradients):
            return "an empty share has a gradient"
    return ""


def smallest_of_each_family() -> list[str]:
    families: dict[str, list[str]] = {}
    for name in models.list_models(module=models):
        family = re.match(r"[a-z]+(_v\d|_[xy])?", name)[0]  # swin and swin_v2, regnet_x and regnet_y
        families.setdefault(family, []).append(name)

    def parameters(name: str) -> int:
        return models.get_model_weights(name).DEFAULT.meta["num_params"]

    return [min(names, key=parameters) for names in families.values()]


def one_rank(kit: Kit) -> Findings:
    """A world of one under DistributedDataParallel against a plain process."""
    found, trained = Findings(), {}
    size, batch, steps = (32, 8, 3) if kit.quick else (64, 32, 20)
    data = kit.dataset(batch * steps, size)
    flags = ["--model", "resnet18", "--image-size", size, "--batch-size", batch, "--amp", "off", "--workers", 0]
    for parallel in ("none", "ddp"):
        with distributed.started("ddp") if parallel == "ddp" else nullcontext(kit.launch()) as launch:
            run, loader, _ = begin(launch, data, kit.folder, *flags)
            trained[parallel] = step_losses(run, loader)
            began = time.monotonic()
            train_epoch(run, loader, Watch(lambda done, running: None))
            found.facts[f"--parallel {parallel}"] = f"{1000 * (time.monotonic() - began) / steps:.3g} ms a step"
    distance = furthest(trained["ddp"], trained["none"])
    found.claim(f"DistributedDataParallel of one rank has the losses of a plain process, {steps} steps",
                distance <= EQUAL[kit.device], f"{distance:.1e}")  # fmt: skip
    return found


def two_ranks(kit: Kit) -> Findings:
    """Two ranks on one device, over gloo: the losses of one process, also where a rank's share is empty."""
    return worlds(kit, "gloo", [2])


def nccl_worlds(kit: Kit) -> Findings:
    """Two and all GPUs over NCCL, which waits 60 s for a rank: the losses of one; buffers broadcast and not."""
    return worlds(kit, "nccl", sorted({2, torch.cuda.device_count()})) if kit.gpu else worlds(kit, "gloo", [2, 3])


def worlds(kit: Kit, backend: str, sizes: list[int]) -> Findings:
    """Losses in worlds of these sizes against one process; the last global batch has a single photo."""
    found = Findings()
    data = kit.dataset(25, 48)
    common = ["--model", "resnet18", "--image-size", "40", "--global-batch-size", "8", "--workers", "0"]
    runs = {
        "BatchNorm frozen": ["--freeze-bn", "--amp", "off"],
        "BatchNorm synchronised": ["--sync-bn", "--amp", "off"],
        "BatchNorm synchronised, bf16": ["--sync-bn", "--amp", "bf16"],
        "BatchNorm synchronised, fp16": ["--sync-bn", "--amp", "fp16"],
    }
    offered = ["off"] if kit.quick else [amp for amp in ("off", "bf16", "fp16") if not refusal(kit.device, amp)]
    runs = {name: [*common, *flags] for name, flags in runs.items() if flags[-1] in offered}
    expected = {name: losses(kit.launch(), data, kit, *flags) for name, flags in runs.items()}
    for size in sizes:
        results = run_ranks(kit, size, backend, data, runs)
        for name, flags in runs.items():
            distance = furthest(results[name]["losses"], expected[name])
            tolerance = EQUAL[kit.device] if flags[-1] == "off" else TOLERANCES[flags[-1]]
            found.claim(f"{size} ranks have the losses of one: {name}", distance <= tolerance, f"{distance:.1e}")
        frozen = results["BatchNorm frozen"]
        found.facts[f"{size} ranks, ms a step"] = ", ".join(f"{frozen['ms'][name]:.3g} {name}" for name in BUFFERS)
        broadcasts = frozen["broadcasts"]
        found.claim(f"{size} ranks broadcast no frozen BatchNorm", not broadcasts, f"broadcast_buffers={broadcasts}")
    return found


def run_ranks(kit: Kit, size: int, backend: str, data: Path, runs: dict[str, list[str]]) -> dict:
    """What rank 0 of a world of `size` found, see rank.py. Raises RuntimeError with the last line of a failed rank."""
    output = kit.folder / f"world{size}"
    output.mkdir()
    settings = {"backend": backend, "gpu": kit.gpu, "data": str(data), "output": str(output), "runs": runs}
    script, environment = Path(__file__).with_name("rank.py"), {**os.environ, **ENVIRONMENT}
    processes = [
        subprocess.Popen(
            [sys.executable, script, json.dumps({**settings, "rank": rank, "world": size})],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for rank, (process, text) in enumerate(zip(processes, outputs, strict=True)):
        if process.returncode:
            print(text, file=sys.stderr)
            raise RuntimeError(f"rank {rank} of {size}: {text.strip().splitlines()[-1]}")
    return json.loads((output / "found.json").read_text())
