"""What the server does under load: many clients for a minute on loopback, in float32 on the CPU. Every stream is held
against the same request made alone, nothing may be lost, and the memory of both processes is read every second.

    python benchmarks/serve.py [--clients 64] [--seconds 60] [--model shakespeare] [--tokens 200] [--device cpu]
    python benchmarks/serve.py --blocks 12x768 --least 6

With `--blocks` it is a GPT-2 of that many blocks of that width, with random weights: what a pass takes is the same
whatever they are. Its texts have nothing that could be guessed, so each pass brings a token of each; a text of the
bundled model alone has guesses that come true, which many texts gain less by.

First one client makes the requests one after the other, which gives the texts to compare with and the throughput of one
client at a time. Then all clients make them over and over. Server, engine and clients share the machine, so that what
the clients take is missing in the figure. Exits with 1 when a text differs, a request is lost, memory grows, or
the clients together get fewer than `--least` times the tokens of one at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = (
    "ROMEO:",
    "First Citizen:\n",
    "To be, or not to be",
    "The king",
    "\n",
    "KING RICHARD III:\nNow",
    "My lord,",
    "O",
)
GROWTH = 0.05
"""Memory may end so much above what it was after the first quarter: allocators take a while to find their size."""


@dataclass
class Answer:
    """One request's stream."""

    kind: int
    text: str
    tokens: int
    complete: bool
    first: float
    seconds: float


@dataclass
class Memory:
    """Resident bytes of both processes, read now and then."""

    server: list[int] = field(default_factory=list)
    engine: list[int] = field(default_factory=list)


class Taken(NamedTuple):
    """Processor seconds so far."""

    server: float
    engine: float
    clients: float


class Server:
    """`minigpt-tui serve` on a port that is free."""

    def __init__(self, home: str, model: str, device: str) -> None:
        self.log = Path(home, "server.log")
        words = ["serve", "--model", model, "--port", "0", "--device", device, "--precision", "fp32"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "minigpt_tui", *words],
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_HOME": home},
            )
        while not (found := re.search(r"http://127.0.0.1:(\d+);", self.log.read_text())):
            if self.process.poll() is not None:
                sys.exit(self.log.read_text())
            time.sleep(0.1)
        self.port = int(found[1])
        self.itself = psutil.Process(self.process.pid)
        (self.engine,) = self.itself.children()

    def taken(self) -> Taken:
        """What each process has taken."""
        server, engine = (sum(process.cpu_times()[:2]) for process in (self.itself, self.engine))
        return Taken(server, engine, time.process_time())

    def end(self) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def random_model(folder: Path, blocks: str) -> str:
    """Make a model with random weights, such as 12x768: blocks, and numbers in the stream; heads are of 64."""
    import torch

    from engine.checkpoints import load_model, save_checkpoint
    from engine.config import ModelConfig
    from engine.model.gpt import GPT

    depth, width = map(int, blocks.split("x"))
    known = load_model("shakespeare", "cpu", "fp32")
    shape = ModelConfig(
        family="gpt2", bias=True, n_layer=depth, n_embd=width, n_head=width // 64, block_size=1024,
        vocab_size=known.config.vocab_size,
    )  # fmt: skip
    torch.manual_seed(0)
    gpt = GPT(shape)
    with torch.no_grad():  # no text ends before it is full: what is normed has a mean of 0, and with this bias one of 1
        gpt.final_norm.bias.fill_(1.0)
        gpt.head.weight[known.tokenizer.eot_id] = -0.1
    save_checkpoint(folder, gpt, known.tokenizer, known.record, precision="fp16")
    return str(folder)


async def ask(port: int, kind: int, tokens: int) -> Answer:
    """Make one request and read its stream to the end, with as little work as can be."""
    fields = {
        "prompt": PROMPTS[kind % len(PROMPTS)],
        "seed": kind,
        "max_tokens": tokens,
        "temperature": 0.8,
        "stream": True,
    }
    body = json.dumps(fields).encode()
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    received = bytearray()
    first = 0.0
    while part := await reader.read(1 << 16):
        if not first and b"data: " in part:
            first = time.perf_counter() - began
        received += part
    seconds = time.perf_counter() - began
    writer.close()
    return read(kind, bytes(received), first, seconds)


def read(kind: int, received: bytes, first: float, seconds: float) -> Answer:
    """What a whole answer says; it is sent in chunks."""
    head, _, rest = received.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        count = int(size, 16)
        body, rest = body + rest[:count], rest[count + 2 :]
    events = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    if not head.startswith(b"HTTP/1.1 200 ") or not events or events[-1] != b"[DONE]":
        return Answer(kind, received[-200:].decode(errors="replace"), 0, False, first, seconds)
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    text = "".join(choice["text"] for choice in choices)
    whole = choices[-1]["finish_reason"] is not None
    return Answer(kind, text, len(text), whole, first, seconds)


async def warm(port: int, clients: int, tokens: int) -> None:
    """The longest request once from all clients, so that the room for each text is as full as it will be."""
    longest = max(range(len(PROMPTS)), key=lambda kind: len(PROMPTS[kind]))
    await asyncio.gather(*(ask(port, longest, tokens) for _ in range(clients)))


async def alone(port: int, kinds: int, tokens: int) -> list[Answer]:
    """All kinds of request, one after the other."""
    return [await ask(port, kind, tokens) for kind in range(kinds)]


async def together(
    server: Server, clients: int, seconds: float, kinds: int, tokens: int
) -> tuple[list[Answer], Memory]:
    """All clients, over and over."""
    answers: list[Answer] = []
    memory = Memory()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        order = random.Random(number)
        while time.monotonic() < end:
            answers.append(await ask(server.port, order.randrange(kinds), tokens))

    async def watch() -> None:
        while True:
            memory.server.append(server.itself.memory_info().rss)
            memory.engine.append(server.engine.memory_info().rss)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(client, range(clients)))
    watching.cancel()
    return answers, memory


def growth(sizes: list[int]) -> float:
    """How much more there was at the end than after the first quarter."""
    quarter = max(1, len(sizes) // 4)
    early, late = statistics.median(sizes[quarter : 2 * quarter] or sizes), statistics.median(sizes[-quarter:])
    return late / early - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="shakespeare")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--kinds", type=int, default=64, help="different requests")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blocks", metavar="12x768", help="instead of --model, random weights of this shape")
    parser.add_argument("--least", type=float, default=0.0, help="times one client's throughput")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        model = random_model(Path(home, "random"), options.blocks) if options.blocks else options.model
        server = Server(home, model, options.device)
        try:
            asyncio.run(warm(server.port, options.clients, options.tokens))
            began = time.perf_counter()
            expected = asyncio.run(alone(server.port, options.kinds, options.tokens))
            one = sum(answer.tokens for answer in expected) / (time.perf_counter() - began)
            began = time.perf_counter()
            before = server.taken()
            answers, memory = asyncio.run(
                together(server, options.clients, options.seconds, options.kinds, options.tokens)
            )
            took = time.perf_counter() - began
            spent = Taken(*(later - earlier for earlier, later in zip(before, server.taken(), strict=True)))
            written = sum(answer.tokens for answer in answers)
            many = written / took
        finally:
            status = server.end()
    lost = [answer for answer in answers + expected if not answer.complete]
    differ = [answer for answer in answers if answer.complete and answer.text != expected[answer.kind].text]
    firsts = sorted(answer.first * 1000 for answer in answers)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.device}, "
        f"{options.blocks or options.model} in float32, {options.tokens} tokens a request"
    )
    print(f"one client at a time   {one:8,.0f} tokens/s")
    print(f"{options.clients} clients, {took:.0f} s     {many:8,.0f} tokens/s, {many / one:.2f} times as many")
    print(f"requests {len(answers):,}, lost {len(lost)}, other than alone {len(differ)}, exit status {status}")
    print(f"first piece: median {statistics.median(firsts):.0f} ms, p95 {firsts[int(len(firsts) * 0.95)]:.0f} ms")
    print("cores used: server {:.2f}, engine {:.2f}, clients {:.2f}".format(*(each / took for each in spent)))
    print(
        "processor seconds for 10,000 tokens: server {:.2f}, engine {:.2f}, clients {:.2f}".format(
            *(each / written * 10_000 for each in spent)
        )
    )
    for name, sizes in (("server", memory.server), ("engine", memory.engine)):
        shown = ", ".join(f"{size / 2**20:.0f}" for size in sizes[:: max(1, len(sizes) // 8)])
        print(f"memory of the {name}: {shown} MiB; growth {growth(sizes):+.1%}")
    for answer in (lost + differ)[:3]:
        print(f"request {answer.kind}: {answer.text!r}", file=sys.stderr)
    flat = max(growth(memory.server), growth(memory.engine)) <= GROWTH
    enough = many >= options.least * one
    if not enough:
        print(f"fewer than {options.least:g} times the tokens of one client at a time", file=sys.stderr)
    return 1 if lost or differ or status or not flat or not enough else 0


if __name__ == "__main__":
    sys.exit(main())
