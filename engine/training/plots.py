"""The loss of one or several runs as a picture and as plain numbers: metrics in, a .png, .svg or .json file out. Knows
nothing of run directories, and imports matplotlib (an extra) only to draw.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from engine import folders, safe_writing
from engine.errors import InvalidSettingError, RunError
from engine.training.run import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Sequence[tuple[str, Sequence[Metrics]]]
"""Names of runs, each with its metrics in the order of their steps."""

SUFFIXES = (".png", ".svg")

SMOOTHED_SHARE = 0.02
"""Half the width of the window that smooths the training loss, as a share of all steps."""

DRAWN_POINTS = 2000
"""A longer curve is drawn as the lowest and highest value of each of half as many pieces."""


class Look(NamedTuple):
    """How one run is told from the others, with colours and without: its ink, its marker, its dashes."""

    ink: str
    marker: str
    dashes: Any


LOOKS = (
    Look("#0b5cad", "o", "solid"),
    Look("#d1650f", "s", (0, (6, 2))),
    Look("#2f8f5b", "^", (0, (2, 1.5))),
    Look("#a4286a", "D", (0, (7, 2, 1.5, 2))),
    Look("#6f56c5", "v", (0, (4, 1.5, 1, 1.5, 1, 1.5))),
    Look("#7a6a12", "P", (0, (10, 3))),
    Look("#3b9fc4", "X", (0, (1, 1))),
    Look("#444b54", "<", (0, (5, 4))),
)
"""In the order in which runs are drawn; their inks differ in lightness too."""

ONE_RUN = {"batch": "#c3d0de", "train": "#6189b3", "split": "#1b3a5c", "val": "#bf3d0a"}
"""The inks of a picture of one run."""

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": "#8a939d",
    "axes.labelcolor": "#30363d",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "text.color": "#1f2328",
    "text.parse_math": False,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "legend.frameon": False,
    "svg.hashsalt": "minigpt-tui",  # equal runs give equal files
}


def write_plot(path: Path, runs: Runs, *, log: bool = False) -> None:
    """Draw the losses of runs, one replacing what is at `path` in one step.

    Args:
        path: Where the picture goes; its suffix says its kind, .png or .svg.
        runs: One for a picture with the loss of each batch, several to compare them.
        log: Whether the losses are on a logarithmic scale.

    Raises:
        InvalidSettingError: The suffix is another, or matplotlib is not installed.
        RunError: A run has no steps yet, or the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidSettingError(f"{path} is neither a .png nor an .svg file", f"call it {path.stem}.png")
    _check(runs)
    require_matplotlib()
    kind = path.suffix.lower()[1:]
    picture = io.BytesIO()
    with _style():
        figure = _draw(runs, log=log)
        figure.savefig(picture, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    _write(path, picture.getvalue())


def loss_data(runs: Runs) -> dict[str, Any]:
    """The curves of runs as plain values; `val_losses` and `train_split_losses` have steps of their own."""
    return {"runs": [{"name": name} | _curves(metrics) for name, metrics in runs]}


def write_loss_data(path: Path, runs: Runs) -> None:
    """Write `loss_data` as JSON, in one step.

    Raises:
        RunError: A run has no steps yet, or the file cannot be written.
    """
    _check(runs)
    _write(path, msgspec.json.encode(loss_data(runs)) + b"\n")


def require_matplotlib() -> None:
    """Import matplotlib, so that a picture can be drawn.

    Raises:
        InvalidSettingError: It is not installed.
    """
    if "MPLCONFIGDIR" not in os.environ:  # its cache of fonts, which is beside the user's settings otherwise
        os.environ["MPLCONFIGDIR"] = str(folders.private(folders.cache_home() / "matplotlib"))
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InvalidSettingError("matplotlib is not installed", "pip install 'minigpt-tui[plot]'") from None


def smoothed(values: np.ndarray) -> np.ndarray:
    """The mean over a window around each value, (N,) to (N,).

    It narrows towards the beginning, where the loss falls too steeply for a wide one, and loses only its later half
    towards the end, where one batch should not decide.
    """
    count = len(values)
    place = np.arange(count)
    half = np.minimum(max(1, round(count * SMOOTHED_SHARE)), place // 4)
    low, high = place - half, np.minimum(place + half + 1, count)
    total = np.concatenate([[0.0], np.cumsum(values)])
    means: np.ndarray = (total[high] - total[low]) / (high - low)
    return means


def _check(runs: Runs) -> None:
    for name, metrics in runs:
        if not metrics:
            raise RunError(f"the run {name} has no steps yet", "wait for its first one")


def _write(path: Path, data: bytes) -> None:
    try:
        safe_writing.write_file(path, data)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error})", "choose another file") from None


def _curves(metrics: Sequence[Metrics]) -> dict[str, list[Any]]:
    evaluated = [line for line in metrics if line.val_loss is not None]
    measured = [line for line in metrics if line.train_split_loss is not None]
    return {
        "steps": [line.step for line in metrics],
        "train_losses": [line.train_loss for line in metrics],
        "lr": [line.lr for line in metrics],
        "val_steps": [line.step for line in evaluated],
        "val_losses": [line.val_loss for line in evaluated],
        "train_split_steps": [line.step for line in measured],
        "train_split_losses": [line.train_split_loss for line in measured],
    }


@contextmanager
def _style() -> Iterator[None]:
    """Our looks, whatever the user's matplotlib is set to."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the name of a run in other letters
        mpl.rcdefaults()
        parameters: Any = mpl.rcParams  # its type is a list of every name
        parameters.update(STYLE)
        yield


def _draw(runs: Runs, *, log: bool) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    if len(runs) == 1:
        _draw_one(axes, runs[0][1])
    else:
        for number, run in enumerate(runs):
            _draw_beside_others(axes, *run, LOOKS[number % len(LOOKS)])
    title = _shortened(runs[0][0], 60) if len(runs) == 1 else f"{len(runs)} runs"
    axes.set_title(f"Loss of {title}", loc="left", fontsize=13, fontweight="bold", pad=12)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.margins(x=0.015)
    axes.set_xlim(left=0)
    if log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        marks = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high < 20 * low else (1, 2, 5)
        axes.yaxis.set_major_locator(LogLocator(subs=marks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    axes.legend(loc="upper right", ncols=1 if len(runs) < 6 else 2, handlelength=3.2, labelspacing=0.55)
    return figure


def _draw_one(axes: Axes, metrics: Sequence[Metrics]) -> None:
    """Each batch's loss faintly, its mean over a window, and what the evaluations found."""
    curves = _curves(metrics)
    steps, losses = np.array(curves["steps"]), np.array(curves["train_losses"])
    axes.plot(*_thinned(steps, losses), color=ONE_RUN["batch"], linewidth=0.8, label="training, each batch")
    axes.plot(*_thinned(steps, smoothed(losses)), color=ONE_RUN["train"], linewidth=1.9, label="training, smoothed")
    if curves["train_split_steps"]:
        axes.plot(
            curves["train_split_steps"],
            curves["train_split_losses"],
            color=ONE_RUN["split"],
            linewidth=1.1,
            linestyle=(0, (4, 2)),
            marker="s",
            markersize=3.5,
            markerfacecolor="white",
            label="training split",
        )
    if curves["val_steps"]:
        axes.plot(
            curves["val_steps"],
            curves["val_losses"],
            color=ONE_RUN["val"],
            linewidth=1.6,
            marker="o",
            markersize=4.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            label="validation",
            zorder=3,
        )
        step, loss = _best(curves)
        _ring(axes, step, loss, ONE_RUN["val"], label=f"best validation: {loss:.4f} at step {step:,}")


def _draw_beside_others(axes: Axes, name: str, metrics: Sequence[Metrics], look: Look) -> None:
    """The validation loss strongly, with the smoothed training loss as its shadow."""
    curves = _curves(metrics)
    steps, losses = np.array(curves["steps"]), np.array(curves["train_losses"])
    train = _thinned(steps, smoothed(losses))
    if not curves["val_steps"]:
        axes.plot(*train, color=look.ink, linewidth=1.7, linestyle=look.dashes, label=_label(name, "training"))
        return
    axes.plot(*train, color=look.ink, linewidth=1.0, alpha=0.35)
    step, loss = _best(curves)
    axes.plot(
        curves["val_steps"],
        curves["val_losses"],
        color=look.ink,
        linewidth=1.7,
        linestyle=look.dashes,
        marker=look.marker,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        markevery=max(1, len(curves["val_steps"]) // 16),
        label=_label(name, f"{loss:.4f} at {step:,}"),
        zorder=3,
    )
    _ring(axes, step, loss, look.ink)


def _ring(axes: Axes, step: int, loss: float, ink: str, *, label: str | None = None) -> None:
    """Mark the best validation loss of a run."""
    axes.plot(
        [step],
        [loss],
        linestyle="none",
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor=ink,
        markeredgewidth=1.8,
        label=label,
        zorder=4,
        clip_on=False,
    )


def _best(curves: dict[str, list[Any]]) -> tuple[int, float]:
    """The step of the lowest validation loss, and that loss."""
    loss, step = min(zip(curves["val_losses"], curves["val_steps"], strict=True))
    return step, loss


def _label(name: str, fact: str) -> str:
    """What the legend says of a run; matplotlib leaves out whatever begins with an underscore."""
    label = f"{_shortened(name, 28)}: {fact}"
    return f"\N{THIN SPACE}{label}" if label.startswith("_") else label


def _shortened(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _thinned(steps: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve of at most about DRAWN_POINTS points that looks the same, (N,) and (N,) to (M,) and (M,)."""
    if len(steps) <= DRAWN_POINTS:
        return steps, losses
    stride = -(-2 * len(steps) // DRAWN_POINTS)
    edges = np.arange(0, len(steps), stride)
    pieces = np.minimum.reduceat(losses, edges), np.maximum.reduceat(losses, edges)
    return np.repeat(steps[edges], 2), np.stack(pieces, axis=1).reshape(-1)
