"""The table of gpu_check.py in benchmarks/README.md."""

import re
from collections.abc import Mapping
from pathlib import Path

from pyimagesearch.runtime.errors import UserError
from pyimagesearch.runtime.files import write_text

BEGIN, END = "<!-- gpu_check.py writes from here -->", "<!-- to here -->"


def markdown(titles: Mapping[str, str], machine: Mapping, sections: Mapping[str, Mapping]) -> str:
    """The machine and a row for each fact and claim; sections without a result are not measured.

    titles : what each section measures, by its name, in order
    """
    lines = []
    if machine:
        lines += ["; ".join(f"{name}: {value}" for name, value in machine.items()) + "."]
        lines += ["Figures are median (min..max) of rounds in which the contenders take turns.", ""]
    lines += ["| section | measured | result |", "|---|---|---|"]
    for name, title in titles.items():
        result = sections.get(name)
        if result is None:
            lines.append(row(name, title, "not measured"))
            continue
        when = f"{result['date']}, {result['commit']}, {result['seconds']:.0f} s"
        rounds = [len(next(iter(turns.values()))) for turns in result.get("rounds", {}).values()]
        if rounds:
            least, most = min(rounds), max(rounds)
            when += f"; {least} rounds" if least == most else f"; {least} to {most} rounds"
        lines.append(row(name, title, f"**not measured**: {result['error']}" if "error" in result else when))
        lines += [row("", fact, found) for fact, found in result.get("facts", {}).items()]
        for claim, verdict in result.get("claims", {}).items():
            lines.append(row("", claim, f"{'holds' if verdict['holds'] else '**fails**'}: {verdict['found']}"))
    return "\n".join(lines) + "\n"


def row(section: str, measured: str, found: str) -> str:
    return f"| {section} | {escape(measured)} | {found if found.startswith('**') else escape(found)} |"


def escape(text: str) -> str:
    return re.sub(r"([|<>*_`\[])", r"\\\1", text)


def failed(result: Mapping) -> bool:
    """Whether a section has an error or a claim that does not hold."""
    return "error" in result or not all(verdict["holds"] for verdict in result["claims"].values())


def write(page: str | Path, text: str) -> None:
    """Replace what stands between BEGIN and END in `page` by `text`."""
    before, begin, rest = Path(page).read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise UserError(f"{page} has no lines {BEGIN} and {END}, between which the table is written")
    write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")
