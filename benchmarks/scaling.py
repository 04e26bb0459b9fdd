"""The training script on 1, 2, ... processes: images per second, efficiency, and a plot of time against processes.

    python benchmarks/scaling.py --data dataset --json scaling.json --figure scaling.png
    python benchmarks/scaling.py --processes 1 2 4 8 --data dataset -- --cache device        # flags for the script

With GPUs, each process has one, the batch grows with them, and nn.DataParallel is measured too; efficiency is images/s
relative to N times those of one GPU. On CPUs the processes share the cores and the global batch; efficiency is images/s
relative to one process with all cores.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import measuring
from end_to_end import read_history

NAMES = ("ddp", "ddp-sync-bn", "dp")
LABELS = {"ddp": "DistributedDataParallel", "ddp-sync-bn": "the same with SyncBatchNorm", "dp": "nn.DataParallel"}


def train(name: str, processes: int, gpus: int, args, data: str) -> measuring.Round:
    """One training of contender `name` on `processes` processes or GPUs."""
    flags = ["--weights", "none", "--image-size", args.image_size, "--epochs", args.epochs, *args.flags]
    flags += ["--sync-bn"] if name == "ddp-sync-bn" else []
    flags += ["--parallel", "dp"] if name == "dp" else ["--nproc", processes]
    flags += ["--batch-size" if gpus else "--global-batch-size", args.batch_size]
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(processes)))} if gpus else {}
    with tempfile.TemporaryDirectory() as output:
        begin = time.monotonic()
        measuring.run_script(
            "train_distributed.py", "--data", data, "--output", output, *map(str, flags), environment=visible
        )
        return {**read_history(Path(output, "history.csv")), "wall_s": time.monotonic() - begin}


def efficiencies(summary: dict, counts: list[int], gpus: int) -> dict[str, dict[int, float]]:
    """Images/s of each contender and number of processes, relative to the ideal.

    The ideal is that of one DistributedDataParallel process, on GPUs times the number of processes.
    """
    one = summary[f"ddp x {counts[0]}"]["images_per_s"]["median"] / (counts[0] if gpus else 1)
    found = {}
    for key, figures in summary.items():
        name, _, count = key.partition(" x ")
        ideal = one * (int(count) if gpus else 1)
        found.setdefault(name, {})[int(count)] = figures["images_per_s"]["median"] / ideal
    return found


def draw(path: str, summary: dict, counts: list[int], gpus: int) -> None:
    """Plot seconds per epoch against the number of processes, with the spread of the rounds and the ideal."""
    from pyimagesearch.evaluation.pictures.style import new_figure, save

    colours = {"ddp": "#0072B2", "ddp-sync-bn": "#D55E00", "dp": "#222222"}
    markers = {"ddp": "o", "ddp-sync-bn": "s", "dp": "^"}
    figure = new_figure(7, 4.2, layout="constrained")
    from matplotlib.ticker import FixedLocator, NullLocator

    axes = figure.subplots()
    for name in NAMES:
        if f"{name} x {counts[0]}" not in summary:
            continue
        spreads = [summary[f"{name} x {count}"]["epoch_s"] for count in counts]
        below = [spread["median"] - spread["min"] for spread in spreads]
        above = [spread["max"] - spread["median"] for spread in spreads]
        style = {"color": colours[name], "marker": markers[name], "linewidth": 1.8, "capsize": 3}
        axes.errorbar(counts, [spread["median"] for spread in spreads], (below, above), label=LABELS[name], **style)
    first = summary[f"ddp x {counts[0]}"]["epoch_s"]["median"]
    ideal = [first * counts[0] / count if gpus else first for count in counts]
    axes.plot(counts, ideal, ":", color="#767676", label="ideal")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)
    axes.set_title("Time per epoch", loc="left", weight="bold")
    axes.set_xlabel("number of GPUs" if gpus else "number of processes that share the cores")
    axes.set_ylabel("seconds")
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, path)


def main() -> None:
    import torch

    gpus = torch.cuda.device_count()
    most = gpus or measuring.available_cores()
    parser = measuring.parser("The training script on 1, 2, ... processes.", NAMES, rounds=3)
    parser.add_argument("--processes", nargs="+", type=measuring.size(), default=range(1, most + 1), metavar="N")
    measuring.add_training(parser)
    parser.add_argument("--figure", metavar="PNG", help="plot seconds per epoch against the number of processes")
    args = measuring.parse_training(parser)
    args.processes = sorted(args.processes)
    report = measuring.Report(args)
    asked = {"ddp", *args.contenders}  # the reference of the others
    names = [name for name in NAMES if name in asked and (gpus > 1 or name != "dp")]
    with measuring.dataset(args) as data:
        turns = {
            f"{name} x {count}": partial(train, name, count, gpus, args, data)
            for name in names
            for count in args.processes
        }
        rounds = measuring.interleave(turns, args.rounds, warmups=0)
    reference = f"ddp x {args.processes[0]}"
    summary = measuring.summarise(rounds, "images_per_s", reference)
    efficiency = efficiencies(summary, args.processes, gpus)
    title = f"Scaling, {args.image_size} px, batch {args.batch_size}" + (" per GPU" if gpus else " over all processes")
    report.add(title, rounds, "images_per_s", reference, efficiency=efficiency)
    for name, shares in efficiency.items():
        print(f"efficiency of {LABELS[name]}: " + ", ".join(f"{n}: {share:.3f}" for n, share in shares.items()))
    if args.figure:
        draw(args.figure, summary, args.processes, gpus)


if __name__ == "__main__":
    main()
