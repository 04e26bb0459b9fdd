"""How fast does it train?"""

import time
from functools import partial
from types import SimpleNamespace

import end_to_end
import measuring
import torch
import train_step
from made_photos import make_dataset, make_folder

from gpu_sections.kit import Findings, Kit, Watch, begin, refusal
from pyimagesearch.evaluation.evaluate import evaluate
from pyimagesearch.food_classifier import AMP_DTYPES, resolve_amp
from pyimagesearch.training.loop import train_epoch

NETWORKS = ("densenet121", "resnet18", "resnet50", "efficientnet_b0", "vit_b_16")
LAYOUTS = {"channels_last": None, "contiguous": torch.contiguous_format}


def batches(kit: Kit) -> Findings:
    """A step of DenseNet-121 at batch sizes from 128 to 1024: the tutorial's, ours and timm's."""
    found = Findings()
    size, sizes, photos = (32, (2, 3), 4) if kit.quick else (224, (128, 256, 512, 1024), 1280)
    names = measuring.present(["tutorial", "ours", "timm"])
    with measuring.closing({name: train_step.contender(name, size) for name in names}) as contenders:
        for batch in kit.as_time_allows(sizes, found):
            for name in drop_what_does_not_fit(contenders, batch):
                found.facts[f"batch {batch}, {name}"] = "does not fit into memory"
            if "tutorial" not in contenders:
                break
            turns = {name: partial(call, batch, max(photos // batch, 2)) for name, call in contenders.items()}
            rounds = kit.take_turns(turns, share=(sizes.index(batch) + 1) / len(sizes), warmups=0)
            found.rounds[f"batch {batch}"] = rounds
            for name, figures in measuring.summarise(rounds, "images_per_s", "tutorial").items():
                peak = f", {figures['peak_mib']['median']:,.0f} MiB" if "peak_mib" in figures else ""
                found.facts[f"batch {batch}, {name}"] = f"{speed_and_ratio(figures, 'the tutorial')}{peak}"
                if name == "ours" and not kit.quick:
                    ratio = figures["ratio"]["median"]
                    found.claim(f"batch {batch}: ours is as fast as the tutorial's", ratio >= 1, f"{ratio:.3g} times")
    return found


def speed_and_ratio(figures: dict, reference: str) -> str:
    return f"{measuring.cell(figures['images_per_s'])} images/s, {measuring.cell(figures['ratio'])} times {reference}"


def drop_what_does_not_fit(contenders: dict, batch: int) -> list[str]:
    """Call each contender once; remove and name those that run out of memory, whose processes have ended."""
    dropped = []
    for name, call in list(contenders.items()):
        try:
            call(batch, 1)
        except RuntimeError as error:
            if "OutOfMemoryError" not in str(error):
                raise
            contenders.pop(name).close()
            dropped.append(name)
    return dropped


def build_networks(size: int, amp: str):
    """A function measure(network, layout, batch, steps) of our step in one precision; 0 images/s: it does not fit."""
    made = {}

    def measure(network: str, layout: str, batch: int, steps: int) -> measuring.Round:
        if not any(network == name for name, _ in made):
            made.clear()
        if (network, layout) not in made:
            flags = ["--model", network, "--amp", amp]
            made[network, layout] = train_step.build_ours(size, *flags, layout=LAYOUTS[layout])
        try:
            return made[network, layout](batch, steps)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {"images_per_s": 0.0}

    return measure


def networks(kit: Kit) -> Findings:
    """A step of five networks by precision and memory layout, and how long the host takes to launch one."""
    found = Findings()
    size, batch, steps = (64, 2, 1) if kit.quick else (224, 128, 5)
    names = ["resnet18"] if kit.quick else NETWORKS
    auto = resolve_amp("auto", torch.device(kit.device))
    others = [amp for amp in AMP_DTYPES if amp != auto and not refusal(kit.device, amp)]
    precisions = [auto] if kit.quick else [auto, *others]
    with measuring.closing({amp: measuring.Contender(build_networks, size, amp) for amp in precisions}) as contenders:
        for network in kit.as_time_allows(names, found):
            calls = {amp: partial(call, network, "channels_last", batch, steps) for amp, call in contenders.items()}
            calls[f"{auto}, contiguous"] = partial(contenders[auto], network, "contiguous", batch, steps)
            calls["one photo"] = partial(contenders[auto], network, "channels_last", 1, steps)
            rounds = kit.take_turns(calls, share=(names.index(network) + 1) / len(names), warmups=0)
            found.rounds[network] = rounds
            summary = measuring.summarise(rounds, "images_per_s", None)
            medians = {name: figures["images_per_s"]["median"] for name, figures in summary.items()}
            launch = 1000 / medians.pop("one photo")  # the GPU waits for the host
            found.facts[f"{network}, batch {batch}, images/s"] = ", ".join(
                f"{name} {measuring.cell(summary[name]['images_per_s'])}" for name in medians
            )
            if medians[auto]:
                step = 1000 * batch / medians[auto]
                found.facts[f"{network}, ms a step in {auto}"] = (
                    f"{step:.3g}; {launch:.3g} until the host has launched it"
                )
            if not kit.quick:
                share = medians[auto] / max(medians.values())
                found.claim(
                    f"{network}: --amp auto ({auto}) is within 10 % of the fastest", share >= 0.9, f"{share:.0%}"
                )
    return found


def compilation(kit: Kit) -> Findings:
    """torch.compile: seconds, gain, and what a short last batch costs, in as many networks as there is time for."""
    found = Findings()
    size, batch, short, steps = (32, 4, 3, 2) if kit.quick else (224, 128, 77, 10)
    names = ["resnet18"] if kit.quick else ["resnet18", "vit_b_16", "resnet50", "efficientnet_b0", "densenet121"]
    for network in kit.as_time_allows(names, found):
        torch.compiler.reset()  # else the networks before count to the limit of recompilations
        plain = train_step.build_ours(size, "--model", network)
        compiled = train_step.build_ours(size, "--model", network, "--compile")
        seconds = [timed(compiled, batch)]
        before = compiled(batch, steps)["images_per_s"]
        seconds.append(timed(compiled, short))
        calls = {"plain": partial(plain, batch, steps), "compiled": partial(compiled, batch, steps)}
        rounds = found.rounds[network] = measuring.interleave(calls, 1 if kit.quick else 3, warmups=0)
        figures = measuring.summarise(rounds, "images_per_s", "plain")["compiled"]
        found.facts[f"{network}, batch {batch}"] = (
            f"{speed_and_ratio(figures, 'without')}; {seconds[0]:.0f} s to compile, and {seconds[1]:.0f} s for a batch "
            f"of {short}"
        )
        if not kit.quick:
            share = figures["images_per_s"]["median"] / before
            found.claim(f"{network}, compiled: a short batch does not slow later ones", share >= 0.9, f"{share:.0%}")
    return found


def timed(measure, batch: int) -> float:
    began = time.monotonic()
    measure(batch, 1)
    return time.monotonic() - began


def loading(kit: Kit) -> Findings:
    """Epochs from files and from the caches against steps on synthetic input; how long an epoch's first step takes."""
    found = Findings()
    photos, side, size, batch = (22, 40, 32, 11) if kit.quick else (1920, 512, 224, 128)
    network = "resnet18" if kit.quick else "densenet121"
    data = kit.dataset(photos, side, others=11 if kit.quick else 110, distinct=min(photos, 192))
    flags = ["--model", network, "--image-size", size, "--batch-size", batch, *(["--workers", 1] if kit.quick else [])]
    synthetic = train_step.build_ours(size, "--model", network)
    turns = {"synthetic input": partial(synthetic, batch, photos // batch)}
    for cache in ("none", "device") if kit.quick else ("none", "disk", "device"):
        place = ["--cache", cache, "--cache-dir", kit.folder / "cache"]
        turns[f"--cache {cache}"] = partial(an_epoch, *begin(kit.launch(), data, kit.folder, *flags, *place))
    found.rounds["loading"] = kit.take_turns(turns)
    summary = measuring.summarise(found.rounds["loading"], "images_per_s", "synthetic input")
    for name, figures in summary.items():
        gap = f"; first step after {measuring.cell(figures['gap_s'])} s" if "gap_s" in figures else ""
        found.facts[name] = f"{speed_and_ratio(figures, 'synthetic input')}{gap}"
    if not kit.quick:
        device = summary["--cache device"]
        share, gap = device["ratio"]["median"], device["gap_s"]["median"]
        found.claim("--cache device trains at 90 % of the step's speed", share >= 0.9, f"{share:.0%}")
        found.claim("--cache device: the first step of an epoch comes within 0.2 s", gap < 0.2, f"{gap:.2g} s")
    return found


def an_epoch(run, trainLoader, valLoader) -> measuring.Round:
    """Validation, then an epoch: images/s, and the seconds until its first step."""
    evaluate(run.model, valLoader, run.objective)
    times = [time.monotonic()]
    train_epoch(run, trainLoader, Watch(lambda done, running: times.append(time.monotonic())))
    run.epoch += 1
    return {"images_per_s": run.sampler.size / (time.monotonic() - times[0]), "gap_s": times[1] - times[0]}


def food11(kit: Kit) -> Findings:
    """A job of Food-11's shape: 9,866, 3,430 and 3,347 drawn photos of 512 px, 20 epochs, from start to exit."""
    found = Findings()
    counts, side, size, batch, epochs = (
        ((22, 11, 11), 40, 32, 4, 2) if kit.quick else ((9866, 3430, 3347), 512, 224, 128, 20)
    )
    given = make_folder(kit.folder / "drawn", min(counts[0], 1000), side)  # copies of these: drawing takes minutes
    data = make_dataset(kit.folder / "dataset", counts, side, given)
    args = SimpleNamespace(image_size=size, batch_size=batch, epochs=epochs)
    flags = ["--weights", "none", "--cache", "device"]
    figures = end_to_end.train("train_distributed.py", flags, args, str(data))
    found.facts[f"{epochs} epochs, batch {batch}, --cache device"] = (
        f"{figures['wall_s']:,.0f} s; an epoch {figures['epoch_s']:.3g} s, {figures['images_per_s']:,.0f} images/s"
    )
    return found
