"""How long from a key to the screen while text arrives at full speed: the real app in a pseudo-terminal, against an
engine that writes 5,000 tokens a second and does nothing else, with an empty pane and with 200,000 characters in it.

    python benchmarks/latency.py [--presses 100] [--rate 5000]

A press is timed from the write to the terminal until the bytes that show its effect have been read from it: a letter
in the prompt, and a new temperature in the sampling panel (each value occurs once, so that an older one cannot be
mistaken for it). Reading and writing of the terminal by this script is part of the figure.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 120, 36
BATCH = 0.016
LETTERS = "αβγδεζηθικλμνξοπρστυφχψω"
WORDS = "speak well prove thyself the lord i would bear my leave immediately deserved with a dog of season "


def write_as_engine(rate: float, prefill: int) -> None:
    """Be an engine: answer the protocol on stdout, and write `rate` tokens a second, with alternatives."""
    sys.path.insert(0, str(ROOT))
    from engine.config import SamplingParams
    from engine.inference.stream import Alternative, Token
    from engine.worker import protocol as p

    lock = threading.Lock()
    params, changed = SamplingParams(), False

    def send(event: p.Event) -> None:
        with lock:
            sys.stdout.buffer.write(p.encode(event))
            sys.stdout.buffer.flush()

    def write(request: p.Generate) -> None:
        nonlocal changed
        lines = (WORDS * (prefill // len(WORDS) + 1))[:prefill]
        send(p.Started(id=request.id, prompt=lines, prompt_tokens=(1,), seed=1))
        top = tuple(Alternative(token=n, text=c, logprob=-n - 0.1, drawn=0.1) for n, c in enumerate("abcdefgh"))
        position, start = 1, time.monotonic()
        while True:
            time.sleep(BATCH)
            due = int((time.monotonic() - start) * rate) + 1
            if changed:
                changed = False
                send(p.ParamsChanged(id=request.id, position=position, params=params))
            tokens = []
            while position < due:
                letter = "\n" if position % 400 == 0 else WORDS[position % len(WORDS)]
                id = ord(letter)
                tokens.append(Token(token=id, position=position, text=letter, piece=letter, logprob=-1.0, top=top))
                position += 1
            send(p.Tokens(id=request.id, tokens=tuple(tokens), context=position % 256, tokens_per_second=rate))

    send(p.Hello(protocol=p.PROTOCOL_VERSION, version="0", pid=os.getpid()))
    send(p.Ready(torch="none", devices=("cpu",), threads=1))
    for line in sys.stdin.buffer:
        request = p.decode_request(line)
        if isinstance(request, p.Load):
            model = p.ModelInfo(
                name="benchmark", path="", family="nanochat", parameters=1, vocab_size=66, block_size=256, n_layer=1,
                n_head=1, n_embd=1, tokenizer="char", device="cpu", precision="none", sha256="0",
            )  # fmt: skip
            send(p.Loaded(id=request.id, model=model, seconds=0.0))
        elif isinstance(request, p.Generate):
            threading.Thread(target=write, args=(request,), daemon=True).start()
        elif isinstance(request, p.SetParams) and request.params is not None:
            params, changed = request.params, True
        elif isinstance(request, p.Shutdown):
            os._exit(0)


def run_app(rate: float, prefill: int) -> None:
    """The app, with that engine."""
    sys.path.insert(0, str(ROOT))
    from minigpt_tui.app import MiniGPTApp
    from minigpt_tui.engine_client import EngineClient

    command = [sys.executable, __file__, "--as-engine", "--rate", str(rate), "--prefill", str(prefill)]
    MiniGPTApp(client=EngineClient(command=command)).run()


class Terminal:
    """The app in a pseudo-terminal."""

    def __init__(self, rate: float, prefill: int, home: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "MINIGPT_HOME": home}
            for name in ("COLUMNS", "LINES", "NO_COLOR"):
                os.environ.pop(name, None)
            os.execv(
                sys.executable,
                [sys.executable, __file__, "--as-app", "--rate", str(rate), "--prefill", str(prefill)],
            )
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.received = 0

    def read(self, seconds: float) -> bytes:
        """What the app writes within that time, as soon as there is something."""
        ready, _, _ = select.select([self.fd], [], [], max(0.0, seconds))
        try:
            data = os.read(self.fd, 1 << 16) if ready else b""
        except OSError:  # the app has ended
            data = b""
        self.received += len(data)
        return data

    def wait(self, text: str, seconds: float = 20.0) -> float:
        """Seconds until `text` was written."""
        start, seen = time.perf_counter(), b""
        while (now := time.perf_counter()) - start < seconds:
            seen += self.read(seconds)
            if text.encode() in seen:
                return time.perf_counter() - start
            seen = seen[-200:] if len(seen) > 1 << 20 else seen
        raise SystemExit(f"latency: {text!r} was not seen within {now - start:.0f} s")

    def pause(self, seconds: float) -> None:
        """Let the app write for a while."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.read(left)

    def press(self, key: str, effect: str) -> float:
        """Seconds from a key to its effect."""
        while self.read(0):  # what was written before the key is not its effect
            pass
        os.write(self.fd, key.encode())
        return self.wait(effect)

    def close(self) -> None:
        """End the app."""
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + 5
        while time.monotonic() < end and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            self.read(0.05)


def measure(rate: float, prefill: int, presses: int) -> None:
    """Print the latencies at one size of the pane."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(rate, prefill, home)
        terminal.wait("benchmark")  # the model's name: it is loaded
        terminal.pause(0.5)
        os.write(terminal.fd, b"x\r")
        terminal.wait("streaming")
        os.write(terminal.fd, b">")
        terminal.pause(2.0)
        start, before = time.perf_counter(), terminal.received
        settings = []
        for press in range(presses):
            settings.append(terminal.press("T", f"{0.85 + 0.05 * press:.2f}"))
            terminal.pause(generator.uniform(0.03, 0.12))
        os.write(terminal.fd, b"a")
        terminal.pause(0.3)
        letters = []
        for press in range(presses):
            letters.append(terminal.press(LETTERS[press % len(LETTERS)], LETTERS[press % len(LETTERS)]))
            terminal.pause(generator.uniform(0.03, 0.12))
            if press % len(LETTERS) == len(LETTERS) - 1:
                os.write(terminal.fd, b"\x15")  # ctrl+u: an empty line again
                terminal.pause(0.2)
        rate_out = (terminal.received - before) / (time.perf_counter() - start) / 1024
        terminal.close()
    for name, times in (("setting", settings), ("letter", letters)):
        ordered = sorted(time * 1000 for time in times)
        p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        print(
            f"{prefill:>9,} characters  {name:<8} median {statistics.median(ordered):5.1f} ms   "
            f"p95 {p95:5.1f} ms   most {ordered[-1]:5.1f} ms   ({rate_out:,.0f} KiB/s to the terminal)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--presses", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5000.0)
    parser.add_argument("--prefill", type=int, nargs="*", default=[0, 200_000])
    parser.add_argument("--as-engine", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--as-app", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_engine:
        write_as_engine(options.rate, options.prefill[0])
    elif options.as_app:
        run_app(options.rate, options.prefill[0])
    else:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
        ).stdout.strip()
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
            f"{COLUMNS}x{ROWS}, {options.rate:,.0f} tokens/s{f', commit {commit}' if commit else ''}"
        )
        for prefill in options.prefill:
            measure(options.rate, prefill, options.presses)


if __name__ == "__main__":
    main()
