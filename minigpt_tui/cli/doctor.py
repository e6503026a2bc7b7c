"""`minigpt-tui doctor`: what this machine has, what is wrong and how to mend it, a line for each. It works where torch
is missing or broken: torch is tried in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

import engine
from engine.catalog import find_checkpoint, list_checkpoints, verify_checkpoint
from engine.errors import MiniGPTError
from engine.folders import bundled_checkpoints
from engine.inference.native import building
from minigpt_tui.cli.streams import write_json, write_line
from minigpt_tui.columns import columns
from minigpt_tui.paths import homes, places

MIN_COLUMNS, MIN_ROWS = 80, 24
MIN_FREE_BYTES = 1_000_000_000
SLOW_IMPORT_SECONDS = 10.0
PROBE_SECONDS = 120.0
MAX_ESCAPE_MILLISECONDS = 100

_PROBE = """
import json, time
began = time.perf_counter()
import torch
seconds = time.perf_counter() - began
(torch.ones(8, 8) @ torch.ones(8, 8)).sum().item()
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "seconds": seconds,
    "threads": torch.get_num_threads(),
    "built_for": torch.version.cuda,
    "cuda": torch.cuda.get_device_name(0) if cuda else "",
    "memory": torch.cuda.get_device_properties(0).total_memory if cuda else 0,
    "mps": torch.backends.mps.is_available(),
}))
"""


class Finding(NamedTuple):
    """One line of the report: what was looked at, how it is, and what it is or how to mend it."""

    subject: str
    state: Literal["ok", "warn", "fail"]
    text: str


@click.command()
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object per line of the report.")
def doctor(as_lines: bool) -> None:
    """Check Python, torch, device, kernels, terminal, folders and models, and say how to mend what is wrong.

    The exit status is 1 when something fails; a warning is nothing to worry about.
    """
    findings = []
    for check in (check_python, check_torch, check_kernels, check_terminal, check_folders, check_models):
        for finding in _guarded(check):
            findings.append(finding)
            if as_lines:
                write_json(finding._asdict())
    if not as_lines:
        for line in columns([(f"{finding.state:4}", finding.subject, finding.text) for finding in findings]):
            write_line(line)
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of one check; one that fails itself is a finding too, and the others go on."""
    try:
        yield from check()
    except Exception as error:
        yield Finding(check.__name__.removeprefix("check_"), "fail", f"{type(error).__name__}: {error}")


def check_python() -> Iterator[Finding]:
    """Version and place of Python and of minigpt-tui."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("minigpt-tui", "ok", f"{engine.__version__} in {Path(engine.__file__).parent.parent}")
    yield Finding("python", "ok", f"{version} at {sys.executable}")


def check_torch() -> Iterator[Finding]:
    """Whether torch can be imported and computes, how fast it comes, and on what."""
    try:
        # -P, as the engine's own process: a file of the user's must not stand in for a module.
        probe = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        yield Finding("torch", "fail", f"not imported after {PROBE_SECONDS:.0f} s: is the disk very slow or full?")
        return
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or [f"it ended with status {probe.returncode}"])[-1]
        yield Finding("torch", "fail", f"{last}: install it with {sys.executable} -m pip install torch")
        return
    found: dict[str, Any] = json.loads(probe.stdout.strip().splitlines()[-1])
    slow = found["seconds"] > SLOW_IMPORT_SECONDS
    advice = "; slow, the next start should find it in the disk's cache" if slow else ""
    built = f"built for CUDA {found['built_for']}" if found["built_for"] else "without CUDA"
    state: Literal["ok", "warn"] = "warn" if slow else "ok"
    yield Finding("torch", state, f"{found['version']}, {built}, imported in {found['seconds']:.1f} s{advice}")
    yield _device(found)


def _device(found: dict[str, Any]) -> Finding:
    threads = f"{found['threads']} threads"
    if found["cuda"]:
        return Finding("device", "ok", f"cuda: {found['cuda']}, {found['memory'] / 2**30:.0f} GiB; cpu, {threads}")
    if found["mps"]:
        return Finding("device", "ok", f"mps; cpu, {threads}")
    if shutil.which("nvidia-smi") and found["built_for"] is None:
        return Finding(
            "device", "warn", f"cpu, {threads}; there is an NVIDIA driver: install torch's CUDA build to use it"
        )
    if shutil.which("nvidia-smi"):
        return Finding("device", "warn", f"cpu, {threads}; the GPU is not seen: does nvidia-smi show it?")
    return Finding("device", "ok", f"cpu, {threads}")


def check_kernels() -> Iterator[Finding]:
    """Whether texts are written by what was built for this processor; it is built where it is not there yet."""
    found = building.find()
    if found.library is None:
        mend = f": {found.mend}" if found.mend else ""
        text = f"{found.says}, so on the CPU PyTorch alone writes texts, which takes longer{mend}"
        yield Finding("kernels", "warn" if mend else "ok", text)
        return
    kinds = found.library.built_for()
    names = [name for number, name in building.NUMBERS.items() if kinds & number]
    instructions = f"instructions for {' and '.join(names)}" if names else "no instructions for bf16 and int8"
    compiler = building.version(building.find_compiler())
    yield Finding("kernels", "ok", f"built by {compiler} for this processor, with {instructions}")


def check_terminal() -> Iterator[Finding]:
    """Size, characters and colours of the terminal, and tmux's settings."""
    encoding = sys.stdout.encoding or "none"
    if encoding.lower().replace("-", "") == "utf8":
        yield Finding("characters", "ok", "UTF-8")
    else:
        how = "set PYTHONUTF8=1" if os.name == "nt" else "set LANG=C.UTF-8, or another locale with UTF-8"
        yield Finding("characters", "warn", f"{encoding}: {how}")
    if not sys.stdout.isatty():
        yield Finding("terminal", "ok", "stdout is not a terminal, so size and colours were not looked at")
        return
    columns_, rows = shutil.get_terminal_size()
    size = f"{columns_}x{rows}"
    if columns_ < MIN_COLUMNS or rows < MIN_ROWS:
        yield Finding("terminal", "warn", f"{size}: the app wants {MIN_COLUMNS}x{MIN_ROWS}, make the window larger")
    else:
        yield Finding("terminal", "ok", f"{size}, TERM={os.environ.get('TERM', '')}")
    yield _colours()
    if os.environ.get("TMUX") and shutil.which("tmux"):
        yield from _tmux()


def _colours() -> Finding:
    term = os.environ.get("TERM", "")
    if os.environ.get("NO_COLOR"):
        return Finding("colours", "ok", "NO_COLOR is set: the app shows none")
    if term in ("", "dumb", "unknown"):
        return Finding(
            "colours", "fail", f"TERM is {term or 'not set'}: set it to what your terminal is, such as xterm-256color"
        )
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return Finding("colours", "ok", "16 million")
    if "256" in term:
        return Finding("colours", "ok", "256; with COLORTERM=truecolor more, if your terminal has them")
    return Finding("colours", "warn", f"16 with TERM={term}: set TERM=xterm-256color if your terminal has them")


def _tmux() -> Iterator[Finding]:
    clipboard, escape = _tmux_option("set-clipboard"), _tmux_option("escape-time")
    if clipboard and clipboard != "on":
        yield Finding(
            "tmux", "warn", f"set-clipboard is {clipboard}: to copy from the app, tmux set -s set-clipboard on"
        )
    if escape.isdigit() and int(escape) > MAX_ESCAPE_MILLISECONDS:
        yield Finding("tmux", "warn", f"escape-time is {escape} ms: for a quick esc key, tmux set -s escape-time 10")
    if clipboard == "on" and not (escape.isdigit() and int(escape) > MAX_ESCAPE_MILLISECONDS):
        yield Finding("tmux", "ok", f"set-clipboard on, escape-time {escape} ms")


def _tmux_option(name: str) -> str:
    try:
        shown = subprocess.run(["tmux", "show", "-sv", name], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return shown.stdout.strip()


def check_folders() -> Iterator[Finding]:
    """Whether the user's folders can be written and are private, and whether there is room."""
    for folder in homes():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            yield Finding("folder", "fail", f"{there} cannot be written: make it yours, or set MINIGPT_HOME to another")
        elif there != folder:
            yield Finding("folder", "ok", f"{folder} will be made when it is needed")
        elif os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077:
            yield Finding("folder", "warn", f"{folder} can be read by others: chmod 700 {folder}")
        else:
            yield Finding("folder", "ok", f"{folder} is yours alone")
    there = next(path for path in (homes()[0], *homes()[0].parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < MIN_FREE_BYTES:
        yield Finding(
            "disk", "warn", f"{free / 1e9:.1f} GB free: a training run may need more, make room or move MINIGPT_HOME"
        )
    else:
        yield Finding("disk", "ok", f"{free / 1e9:.0f} GB free")
    for place in places():
        if not place.ours and not place.path.is_dir():
            yield Finding(place.name, "fail", f"{place.path} is missing: install minigpt-tui again")


def check_models() -> Iterator[Finding]:
    """Whether every model is as it was written."""
    infos = list_checkpoints()
    for info in infos:
        try:
            problems = verify_checkpoint(find_checkpoint(info.name))
        except MiniGPTError as error:
            problems = [str(error)]
        if problems:
            shipped = Path(info.path).parent == bundled_checkpoints()
            mend = (
                "install minigpt-tui again" if shipped else f"train it again, or minigpt-tui models remove {info.name}"
            )
            yield Finding("model", "fail", f"{info.name} is damaged ({'; '.join(problems)}): {mend}")
        else:
            yield Finding("model", "ok", f"{info.name} is as it was written")
    if not any(info.bundled for info in infos):
        yield Finding("model", "fail", "the model that ships with minigpt-tui is missing: install minigpt-tui again")
