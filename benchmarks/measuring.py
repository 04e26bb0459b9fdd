"""How the benchmarks measure: contenders take turns (A, B, C, A, B, C ...); medians, spreads and ratios are reported.

Other load on the machine then affects all contenders. Ratios are taken within a round, so that slow minutes cancel out.
"""

import importlib.metadata
import importlib.util
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the benchmarks are started as scripts

from pyimagesearch.runtime import files, flags, terminal  # noqa: E402
from pyimagesearch.runtime.threads import available_cores  # noqa: E402

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "opencv-python-headless", "timm")
Round = dict[str, float]  # the figures of one measurement, by name


class Contender:
    """A contender in its own process, so that contenders do not share threads, allocators and caches.

    In that process `build(*arguments)` returns the function that measures. Calling the contender calls that function
    once and returns its figures. Contenders are built concurrently: the first call waits until its contender is ready.

    build : a top-level function of a module, so that another process can import it
    environment : additional environment variables of the process
    core : the only core that it may use; None: all
    """

    def __init__(self, build: Callable, *arguments, environment: Mapping[str, str] | None = None, core=None):
        context = multiprocessing.get_context("spawn")
        self._pipe, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, core, build, arguments))
        with _environment(environment or {}):
            self._process.start()
        other_end.close()

    def __call__(self, *arguments) -> Round:
        with suppress(BrokenPipeError):  # the process failed in build and has sent the reason
            self._pipe.send(arguments)
        try:
            found = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"a contender ended with exit status {self._process.exitcode}") from None
        if isinstance(found, str):
            raise RuntimeError(f"a contender failed:\n{found}")
        return found

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(pipe, core: int | None, build: Callable, arguments: Sequence) -> None:
    try:
        # a spawned process would also spawn DataLoader's workers, which are forked otherwise
        multiprocessing.set_start_method(None, force=True)
        if core is not None:
            os.sched_setaffinity(0, {core})
        measure = build(*arguments)
        while True:
            pipe.send(measure(*pipe.recv()))
    except EOFError:  # closed
        pass
    except Exception:
        pipe.send(traceback.format_exc())


@contextmanager
def closing(made: Mapping[str, Contender]):
    """Close the contenders when the block ends."""
    try:
        yield made
    finally:
        for contender in made.values():
            contender.close()


def once(contender: Contender, *arguments) -> Round:
    """The figures of a contender's first call, after which its process ends.

    A process may be faster or slower throughout its life, so a new process per round is fairer where it starts quickly.
    """
    with closing({"": contender}):
        return contender(*arguments)


@contextmanager
def _environment(variables: Mapping[str, str]):
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def interleave(
    measures: Mapping[str, Callable[[], Round]], rounds: int, *, warmups: int = 1, until: float = math.inf
) -> dict[str, list[Round]]:
    """The figures of each contender, per round, without the first `warmups` rounds.

    until : the time, of time.monotonic, after which no round but the first begins
    """
    found = {name: [] for name in measures}
    for number in range(-warmups, rounds):
        if number > 0 and time.monotonic() > until:
            break
        for name, measure in measures.items():
            figures = measure()
            label = f"round {number + 1}/{rounds}" if number >= 0 else "warm-up"
            print(f"{label}, {name}: {', '.join(f'{k} {v:.5g}' for k, v in figures.items())}", file=sys.stderr)
            if number >= 0:
                found[name].append(figures)
    return found


def run_script(*command, environment: Mapping[str, str] | None = None) -> None:
    """Run a Python script of this repository; if it fails, raise RuntimeError with its output."""
    command = [sys.executable, *(os.fspath(part) for part in command)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def present(names: Sequence[str]) -> list[str]:
    """`names`, without timm if it is not installed."""
    if "timm" in names and importlib.util.find_spec("timm") is None:
        print("timm is not installed: pip install -r benchmarks/requirements.txt", file=sys.stderr)
        return [name for name in names if name != "timm"]
    return list(names)


def summarise(
    rounds: Mapping[str, Sequence[Round]], figure: str, reference: str | None, *, less_is_better: bool = False
) -> dict:
    """The median, min and max of each figure, for each contender.

    With a `reference`, also of the ratio of `figure` to the reference's in the same round, above 1 if better.
    """
    summary = {}
    for name, found in rounds.items():
        series = {key: [figures[key] for figures in found] for key in found[0]}
        if reference is not None:
            pairs = [(figures[figure], base[figure]) for figures, base in zip(found, rounds[reference], strict=True)]
            series["ratio"] = [base / own if less_is_better else own / base for own, base in pairs]
        summary[name] = {
            key: {"median": statistics.median(values), "min": min(values), "max": max(values)}
            for key, values in series.items()
        }
    return summary


def table(summary: Mapping[str, Mapping[str, Mapping[str, float]]], reference: str | None) -> str:
    """`summary` as text: a row per contender, median (min..max) of each figure."""
    columns = list(dict.fromkeys(key for figures in summary.values() for key in figures))
    cells = [["", *(f"x {reference}" if key == "ratio" else key for key in columns)]]
    for name, figures in summary.items():
        cells.append([name, *(cell(figures[key]) if key in figures else "" for key in columns)])
    return terminal.table(cells, left=range(len(columns) + 1))


def cell(spread: Mapping[str, float]) -> str:
    """Median (min..max)."""
    return f"{spread['median']:.4g} ({spread['min']:.4g}..{spread['max']:.4g})"


class Report:
    """Prints and writes the machine, the settings, and a section per comparison."""

    def __init__(self, args):
        self._path = args.json
        self._content = {
            "benchmark": Path(sys.argv[0]).stem,
            "machine": machine(),
            "settings": {name: value for name, value in vars(args).items() if name != "json"},
            "sections": [],
        }
        print(*(f"{name}: {value}" for name, value in self._content["machine"].items()), sep="\n")

    def add(self, title: str, rounds, figure: str, reference: str | None, *, less_is_better=False, **more) -> None:
        """Print a comparison's table and add it, with its rounds and `more`, to the file; see summarise.

        The file is written each time, so that a later failure loses no measurement.
        """
        summary = summarise(rounds, figure, reference, less_is_better=less_is_better)
        repeats = len(next(iter(rounds.values())))
        print(f"\n{title} ({repeats} rounds: median, min..max)\n{table(summary, reference)}", flush=True)
        self._content["sections"].append(
            {"title": title, "figure": figure, "reference": reference, "summary": summary, "rounds": rounds, **more}
        )
        if self._path:
            files.write_json(self._path, self._content)


def machine() -> dict[str, str | int | float | bool]:
    """What figures depend on besides the code: processor, memory, GPUs, versions."""
    processor = _processor()
    return {
        "processor": processor.get("model name", platform.processor() or platform.machine()),
        "cores": available_cores(),
        "AVX512-BF16": "avx512_bf16" in processor.get("flags", "").split(),
        "memory GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "GPUs": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader") or "none",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "commit": _output("git", "describe", "--always", "--dirty") or "not a checkout",
    }


def _processor() -> dict[str, str]:
    """The entries for the first processor in /proc/cpuinfo; empty without such a file."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    """A program's output, its lines joined; empty if it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "; ".join(done.stdout.split("\n")[:-1])


def parser(description: str, names: Sequence[str], *, slow: Sequence[str] = (), rounds: int = 5) -> flags.Parser:
    """A parser with the flags of all benchmarks; contenders in `slow` run only if named."""
    made = flags.Parser(description=description)
    made.add_argument("--json", metavar="FILE", help="write all measurements to this file")
    made.add_argument(
        "--rounds", type=flags.number(int, 1), default=rounds, metavar="N",
        help="measurements of each contender, in turn (default %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--contenders", nargs="+", choices=names, default=[name for name in names if name not in slow],
        metavar="NAME", help=f"of {', '.join(names)} (default: all" + (f" but {', '.join(slow)})" if slow else ")"),
    )  # fmt: skip
    return made


def size(least: int = 1):
    return flags.number(int, least)


def add_training(parser, epochs: int = 3) -> None:
    """Add the flags of benchmarks that train."""
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data", metavar="DIR", help="a prepared dataset (default: a generated one)")
    data.add_argument(
        "--make", nargs=3, type=size(11), default=[660, 220, 220], metavar="N",
        help="numbers of photos to generate for training, validation, evaluation (default 660 220 220)",
    )  # fmt: skip
    parser.add_argument(
        "--side", type=size(8), default=348, metavar="PIXELS", help="their short side (default %(default)s)"
    )
    parser.add_argument("--photos", metavar="DIR", help="photos to resize instead of drawing some")
    parser.add_argument("--image-size", type=size(32), default=224, metavar="PIXELS", help="(default %(default)s)")
    parser.add_argument("--batch-size", type=size(), default=32, metavar="N", help="(default %(default)s)")
    parser.add_argument("--epochs", type=size(), default=epochs, metavar="N", help="(default %(default)s)")
    parser.epilog = "Arguments after -- are passed to train_distributed.py."


def parse_training(parser):
    """The parsed flags; `flags` has those after "--"."""
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    args = parser.parse_args(arguments[:cut])
    args.flags = arguments[cut + 1 :]
    return args


@contextmanager
def dataset(args):
    """The dataset folder that the flags of add_training name; a generated one is deleted after the block."""
    if args.data is not None:
        yield os.path.abspath(args.data)
        return
    from made_photos import make_dataset

    with tempfile.TemporaryDirectory() as folder:
        yield os.fspath(make_dataset(folder, args.make, args.side, args.photos))
