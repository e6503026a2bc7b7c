"""A benchmark as people read it: the facts as lines, a table with a row for each precision, and what has no place in
that as lines below. Knows nothing of how anything is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.benchmarking.figures import Facts, Figure, Measure
from minigpt_tui.cli.streams import write_line
from minigpt_tui.columns import columns, count, size

WORTH_SAYING = 0.1
"""The share of the CPU that other programs may take without a word."""

NAMES: dict[Measure, str] = {
    "decode": "one text",
    "unguessed": "one text without guesses",
    "together": "texts together",
    "prefill": "reading a prompt",
    "first-token": "first token",
    "loss": "loss",
    "memory": "memory",
    "training": "training step",
}

HEADS: dict[Measure, str] = {
    "decode": "one text\ntokens/s",
    "unguessed": "unguessed\ntokens/s",
    "together": "8 texts\ntokens/s",
    "prefill": "reading\ntokens/s",
    "first-token": "first token\nms",
    "loss": "loss\nnats/token",
}
"""The columns of the table, in their order."""


def facts_lines(facts: Facts) -> list[str]:
    """What is measured, and on what."""
    shape = f"{facts.n_layer} layers of {facts.n_embd:,}, context {facts.block_size:,}"
    device = f"{facts.device}: {facts.device_name}" if facts.device_name else facts.device
    busy = f", {100 * facts.cpu_in_use:.0f}% in use by other programs" if facts.cpu_in_use >= WORTH_SAYING else ""
    rows = [
        ("model", f"{facts.model}: {facts.family}, {count(facts.parameters)} parameters, {shape}"),
        ("device", f"{device}, {_threads(facts.threads)}"),
        ("processor", facts.processor + busy),
        ("versions", f"torch {facts.torch}, minigpt-tui {facts.minigpt_tui}"),
    ]
    return columns(rows)


def print_figures(figures: Sequence[Figure]) -> None:
    """Print what was measured to stdout; nothing where there is nothing."""
    if any(figure.measure in HEADS for figure in figures):
        write_line()
        Console(highlight=False).print(_table(figures))
    if lines := list(_lines(figures)):
        write_line()
        for line in columns(lines):
            write_line(line)


def _table(figures: Sequence[Figure]) -> Table:
    """A row for each precision, a column for each measure that there is; threads where the rows have not the same."""
    found = {(figure.precision, figure.measure): figure for figure in figures}
    heads = [measure for measure in HEADS if any(figure.measure == measure for figure in figures)]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("\nprecision")
    for measure in heads:
        table.add_column(HEADS[measure], justify="right")
    threads = {figure.precision: figure.details["threads"] for figure in figures if "threads" in figure.details}
    differ = len(set(threads.values())) > 1
    for precision in dict.fromkeys(figure.precision for figure in figures if figure.measure in HEADS):
        name = Text(precision)
        if differ and precision in threads:
            name.append(f"\n{_threads(int(threads[precision]))}", "dim")
        table.add_row(name, *(_cell(found.get((precision, measure))) for measure in heads))
    return table


def _threads(number: int) -> str:
    return f"{number} thread" if number == 1 else f"{number} threads"


def _cell(figure: Figure | None) -> Text:
    """The median, and below it the spread; of a loss, how far it is from that in fp32."""
    if figure is None:
        return Text("")
    if figure.measure == "loss":
        below = "" if figure.precision == "fp32" else f"{round(float(figure.details['against_fp32']), 4) or 0.0:+.4f}"
        return Text.assemble(f"{figure.median:.4f}\n", (below, "dim"))
    return Text.assemble(f"{_number(figure.median)}\n", (_spread(figure), "dim"))


def _lines(figures: Sequence[Figure]) -> Iterator[tuple[str, str]]:
    """What belongs to the table, or has no place in it: a name and a sentence each."""
    found = {figure.measure: figure for figure in figures}
    if "loss" in found:
        yield "loss", f"over {found['loss'].details['tokens']:,} tokens of the model's own validation text"
    for figure in figures:
        if figure.measure == "memory":
            yield from _memory(figure)
    if "training" in found:
        yield from _training(found["training"])


def _memory(figure: Figure) -> Iterator[tuple[str, str]]:
    above, share = size(round(figure.median)), float(figure.details["of_fp32_weights"])
    yield "memory", f"{above} above `import torch` in {figure.precision}, {share:.1f} x its weights in fp32"
    if "on_device" in figure.details:
        yield "", f"{size(int(figure.details['on_device']))} on the GPU"


def _training(figure: Figure) -> Iterator[tuple[str, str]]:
    details = figure.details
    of = f"of {details['batch_size']} x {details['block_size']} in {figure.precision}"
    speed = f"{_number(float(details['tokens_per_second']))} tokens/s"
    yield "training", f"{_number(figure.median)} s a step{_spread(figure, ' ')} {of}, {speed}"
    if details["is_busy"]:
        yield "", "other programs took much of the CPU meanwhile"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(figure: Figure, before: str = "") -> str:
    return f"{before}±{100 * figure.spread:.0f}%" if figure.rounds > 1 else ""
