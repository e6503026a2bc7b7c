"""A sitting at a poorer system, from the first run to the last model that is deleted; says on stdout what came."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
from history_maker import make_entry
from tiny_models import TINY_TEXT

from engine import catalog, folders, own_models, process_families, safe_writing
from engine.config import SamplingParams, TrainConfig
from engine.errors import RunError
from engine.text import encoded
from engine.training import control, launch, run_lock, runs
from engine.training.run import RunConfig, RunDirectory, TextSources
from minigpt_tui.engine_client import EngineClient
from minigpt_tui.history.store import Store

PATIENCE_SECONDS = 60.0
TRAINING = TrainConfig(
    n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, steps=1_000_000, eval_interval=50, save_interval=50,
    sample_tokens=20, precision="fp32", warmup_steps=2, learning_rate=0.02,
)  # fmt: skip
HOLDER = """
import sys, time
from pathlib import Path
from engine.training import run_lock
assert run_lock.take(Path(sys.argv[1])) is not None
print("taken", flush=True)
time.sleep(600)
"""


def until(test):
    """Wait for something, and return it."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := test()):
        assert time.monotonic() < end, [(info.state, info.reason) for info in runs.list_runs()]
        time.sleep(0.02)
    return found


def refusal(work, *arguments) -> str:
    try:
        work(*arguments)
    except RunError as error:
        return error.message
    return ""


def train(text: Path) -> dict:
    """Start a run in a process of its own, ask things of it, see who is kept away from it, and stop it."""
    config = RunConfig(
        name="demo", created=time.time(), training=TRAINING, text=TextSources(train=(str(text),)), device="cpu"
    )
    run = launch.start_run(config)
    told = {"at once": runs.read_run(run.path).state}
    launch.wait_until_running(run)
    until(lambda: catalog.run_checkpoint(run.path, "last"))
    second = subprocess.run([*launch.COMMAND, str(run.path)], capture_output=True, text=True, check=False)
    told["second"] = second.stderr
    told["resumed"] = refusal(launch.resume_run, "demo")
    told["renamed"] = refusal(runs.rename_run, "demo", "other")
    control.request(run.path, "pause")
    until(lambda: runs.read_run(run.path).state == "paused")
    control.request(run.path, "stop")
    until(lambda: runs.read_run(run.path).state == "stopped")
    until(lambda: not run_lock.is_held(run.path))
    other = RunDirectory(runs.rename_run("demo", "Other"))
    told["log"] = (other.path / "log.txt").read_text()
    told["files"] = sorted(path.name for path in other.path.iterdir())
    told["verified"] = catalog.verify_checkpoint(catalog.run_checkpoint(other.path, "best"))
    return told


def kill_a_driver(run: Path) -> list[bool]:
    """Whether a run is held by a process that took its lock, and once that was killed."""
    holder = subprocess.Popen([sys.executable, "-P", "-c", HOLDER, str(run)], stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    held = [run_lock.is_held(run)]
    holder.kill()
    holder.wait()
    holder.stdout.close()
    return [*held, run_lock.is_held(run)]


def cache_twice(text: Path) -> dict:
    """Encode a long text, and open it again."""
    encoded.IN_MEMORY_BYTES = dict.fromkeys(encoded.IN_MEMORY_BYTES, -1)
    said: list[str] = []
    first = encoded.open_encoded([text], report=said.append)
    second = encoded.open_encoded([text], report=said.append)
    return {"said": len(said), "same": second.train.tolist() == first.train.tolist(), "tokens": len(first.train)}


def keep_and_read(path: Path) -> bool:
    """Whether an entry of the history is read as it was written."""
    entry = make_entry(text="what it wrote")
    with Store(path) as store:
        number = store.add(entry)
    with Store(path) as store:
        return store.entry(number).text == entry.text


async def generate(client: EngineClient, model: str) -> str:
    params = SamplingParams(max_new_tokens=30, seed=5)
    done = [event async for event in client.generate("The fox", model=model, params=params)]
    return "".join(token.text for event in done for token in getattr(event, "tokens", ())) + done[-1].text


async def write(model: Path) -> dict:
    """Have texts written by the real worker, with a model that is replaced and deleted under it."""
    client = EngineClient()
    await client.start()
    await client.wait_ready()
    pid = client.hello.pid
    texts = [await generate(client, "tiny")]
    with safe_writing.new_directory(model, replace=True) as folder:
        shutil.copytree(folders.user_checkpoints() / "spare", folder, dirs_exist_ok=True)
    texts.append(await generate(client, "tiny"))
    own_models.rename_model(model, "another")
    texts.append(await generate(client, "another"))
    own_models.remove_model(model.with_name("another"))
    await client.close()
    return {"texts": texts, "gone": not psutil.pid_exists(pid), "left": [path.name for path in model.parent.iterdir()]}


async def main() -> None:
    text = folders.private(folders.data_home()) / "text.txt"
    text.write_text(TINY_TEXT)
    training = asyncio.create_task(asyncio.to_thread(train, text))
    told = {"writing": await write(folders.user_checkpoints() / "tiny"), "training": await training}
    told["drivers"] = kill_a_driver(runs.find_run("Other"))
    runs.remove_run("Other")
    told["runs"] = [path.name for path in folders.runs_folder().iterdir()]
    told["history"] = keep_and_read(folders.data_home() / "history" / "history.db")
    told["cache"] = cache_twice(text)
    print(json.dumps(told))


try:
    asyncio.run(main())
finally:
    for info in runs.list_runs():  # none outlives a sitting that came to a bad end
        if info.is_under_way:
            process_families.kill(info.status.pid)
