"""What only a GPU can show: whether it computes what the CPU does, how fast, and how a run ends that fails.

    python benchmarks/gpu_check.py                          # one GPU: at most 9 minutes; more sections on several
    python benchmarks/gpu_check.py --only warp networks     # these alone, and again
    python benchmarks/gpu_check.py --food11                 # 20 epochs of Food-11's shape, outside of the 9 minutes
    python benchmarks/gpu_check.py --device cpu --quick     # tiny shapes: only whether the sections run
    python benchmarks/gpu_check.py --table --json FILE      # results of another machine into benchmarks/README.md

Each section runs in a process of its own and is written to --json as it ends. A second start goes on with those that
are missing or had an error. At the end the table in benchmarks/README.md is written. The exit status is 1 if a claim
fails or a section has an error.
"""

import os
import sys
from collections.abc import Callable
from datetime import date
from typing import NamedTuple

import measuring
import torch
from gpu_sections import correctness, recovery, speed, table
from gpu_sections.running import run_section

from pyimagesearch.runtime import errors, files, flags
from pyimagesearch.runtime.errors import UserError

README = measuring.REPOSITORY / "benchmarks" / "README.md"
SLOWER = 10  # a CPU may take so many times the seconds of a section


class Section(NamedTuple):
    needs: str  # "any" device, "gpu", or "two": GPUs, for which a CPU's processes can stand in
    seconds: int  # after which it is ended
    function: Callable


SECTIONS = {
    "precision": Section("any", 60, correctness.precision),
    "synchronisation": Section("gpu", 30, correctness.synchronisation),
    "warp": Section("any", 20, correctness.warp),
    "empty-batches": Section("any", 35, correctness.empty_batches),
    "one-rank": Section("any", 20, correctness.one_rank),
    "two-ranks": Section("any", 45, correctness.two_ranks),
    "out-of-memory": Section("any", 20, recovery.out_of_memory),
    "kill-and-resume": Section("any", 40, recovery.kill_and_resume),
    "batches": Section("any", 80, speed.batches),
    "networks": Section("any", 65, speed.networks),
    "compilation": Section("gpu", 55, speed.compilation),
    "loading": Section("any", 55, speed.loading),
    "worlds": Section("two", 120, correctness.nccl_worlds),
    "ranks-ended": Section("two", 180, recovery.ranks_ended),
    "food11": Section("gpu", 1800, speed.food11),  # with --food11
}


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    if args.list:
        for name, section in SECTIONS.items():
            print(f"{name:16} {section.seconds:4} s  {titles()[name]}")
        return 0
    content = files.read_json(args.json, ["machine", "sections"])
    names = [] if args.table else wanted(args)
    if names:
        machine = identity(args)
        content = content or {"machine": machine, "sections": {}}
        if content["machine"] != machine:
            raise UserError(f"{args.json} has the results of another machine or version; name another --json")
        run_missing(args, names, content)
    if content is None:
        raise UserError(f"{args.json} has no results; run without --table, or name another --json")
    if args.readme:
        table.write(args.readme, table.markdown(titles(), content["machine"], content["sections"]))
    return int(any(table.failed(content["sections"][name]) for name in names))


def run_missing(args, names: list[str], content: dict) -> None:
    """Run the sections of `names` that `content` lacks, or that had an error, and write each to --json as it ends."""
    results, commit = content["sections"], measuring.machine()["commit"]
    for name in names:
        if name in results and "error" not in results[name] and not args.only:
            continue
        section = SECTIONS[name]
        print(f"{name}: at most {section.seconds} s", file=sys.stderr, flush=True)
        seconds = section.seconds * (1 if args.device == "cuda" else SLOWER)
        result = run_section(section.function, args.device, args.quick, seconds)
        results[name] = {**result, "date": date.today().isoformat(), "commit": commit}
        files.write_json(args.json, content)
        print(table.markdown({name: titles()[name]}, {}, results), flush=True)


def parse(arguments: list[str] | None):
    parser = flags.Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="(default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see whether the sections run")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help="run these, measured or not")
    parser.add_argument("--food11", action="store_true", help="run this section: 20 epochs of Food-11's shape")
    parser.add_argument("--list", action="store_true", help="print the sections and their seconds")
    parser.add_argument("--table", action="store_true", help="run nothing; write the table of the results in --json")
    parser.add_argument("--json", default="runs/gpu_check.json", metavar="FILE", help="results (default %(default)s)")
    parser.add_argument(
        "--readme", metavar="FILE",
        help="write the table into this page (default: benchmarks/README.md, but not with --quick or on a CPU)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for every process of the sections
    elif not (args.list or args.table or torch.cuda.is_available()):
        parser.error("there is no GPU; --device cpu --quick shows whether the kit itself works")
    if args.readme is None and args.device == "cuda" and not args.quick:
        args.readme = README
    return args


def titles() -> dict[str, str]:
    return {name: (section.function.__doc__ or "").splitlines()[0] for name, section in SECTIONS.items()}


def wanted(args) -> list[str]:
    """The sections to run, in order; see SECTIONS."""
    if args.only or args.food11:
        return [name for name in SECTIONS if name in (args.only or ["food11"])]
    needs = {"any"} if args.device == "cpu" else {"any", "gpu"}
    if (args.device == "cpu" and not args.quick) or torch.cuda.device_count() > 1:
        needs.add("two")
    return [name for name, section in SECTIONS.items() if section.needs in needs and name != "food11"]


def identity(args) -> dict:
    """What all results in a file have in common."""
    found = measuring.machine()
    names = ("GPUs", "processor", "cores", "python", "torch", "torchvision", "timm")
    kept = {name: found[name] for name in names}
    if args.device == "cuda":
        kept |= {"CUDA": torch.version.cuda, "cuDNN": torch.backends.cudnn.version()}
    return kept | ({"shapes": "tiny"} if args.quick else {}) | ({} if args.device == "cuda" else {"device": "cpu"})


if __name__ == "__main__":
    errors.run(main)
