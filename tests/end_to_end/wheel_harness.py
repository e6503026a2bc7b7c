"""Builds the wheel and the sdist, installs the wheel into an empty environment with all that it depends on, and uses it
from another folder: the shell's commands, the engine's process, and the app in a terminal where there is one.

    python tests/end_to_end/wheel_harness.py

It needs the network, hatchling and, for the terminal, pyte; what it makes lies in a temporary folder and goes with it.
The parts that need no network are a test.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMPT = "ROMEO:"

ENGINE = f"""
import asyncio
from engine.worker.protocol import Done, Tokens
from minigpt_tui.engine_client import EngineClient

async def main():
    client = EngineClient()
    await client.start()
    events = [event async for event in client.generate({PROMPT!r}, device="cpu")]
    await client.close()
    assert isinstance(events[-1], Done), events[-1]
    print("".join(token.text for event in events if isinstance(event, Tokens) for token in event.tokens))

asyncio.run(main())
"""
"""The app's side of the engine's process, without the app."""

WHERE = """
import engine, minigpt_tui
from engine import folders
print(engine.__file__, minigpt_tui.__file__, folders.bundled_checkpoints(), folders.bundled_texts(), sep="\\n")
"""


class Failed(Exception):
    """The wheel is not what it should be."""


def main() -> int:
    """Do it all, and say what was done and how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        began = time.monotonic()

        def say(words: str) -> None:
            print(f"{time.monotonic() - began:5.0f} s  {words}", flush=True)

        (sdist,) = build(ROOT, place / "built", "sdist")
        command([sys.executable, "-m", "venv", str(place / "empty")], place)
        installed = Installed(place / "empty", place / "home", place / "elsewhere")
        pip = [installed.python, "-m", "pip", "--disable-pip-version-check"]
        wheels = [place / "wheel", place / "wheel of the sdist"]
        for source, into in zip((ROOT, sdist), wheels, strict=True):  # with what a build needs taken from the index
            command([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(into), str(source)], place)
        wheel, again = (found for into in wheels for found in into.iterdir())
        if contents(again) != contents(wheel):
            raise Failed("the sdist does not build the same wheel")
        say(f"built {wheel.name} ({wheel.stat().st_size / 1e6:.1f} MB), and the same from {sdist.name}")
        command([*pip, "install", "--quiet", "--constraint", str(ROOT / "constraints.txt"), str(wheel)], place)
        packages = json.loads(command([*pip, "list", "--format=json"], place))
        say(f"installed into an empty environment, which has {len(packages)} packages now")
        installed.is_not_the_checkout()
        print(installed.run("doctor"), end="")
        say("doctor has found nothing wrong")
        print(installed.run("generate", PROMPT, "-n", "100", "--seed", "1"))
        say("generate has written a text")
        if not command([installed.python, "-c", ENGINE], installed.elsewhere, installed.environment).strip():
            raise Failed("the engine has written nothing")
        say("the engine's process has written one")
        if importlib.util.find_spec("termios"):
            installed.play()
            say("the app has written one in a terminal")
    return 0


def build(source: Path, into: Path, *targets: str) -> list[Path]:
    """Build with the hatchling that is there.

    Args:
        targets: `wheel`, `sdist`, or none for both.

    Returns:
        What was built: the wheel first.
    """
    kinds = [word for target in targets for word in ("-t", target)]
    command([sys.executable, "-m", "hatchling", "build", "-d", str(into), *kinds], source)
    return sorted(into.iterdir(), key=lambda path: path.suffix != ".whl")


def unpack(sdist: Path, into: Path) -> Path:
    """Unpack an sdist; the folder that it holds."""
    with tarfile.open(sdist) as archive:
        archive.extractall(into, filter="data")
    (folder,) = into.iterdir()
    return folder


def contents(wheel: Path) -> dict[str, str]:
    """Every file of a wheel, with the sha256 of its bytes."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


@dataclass
class Installed:
    """A copy in an environment of its own, used from a folder that has nothing to do with it.

    Attributes:
        folder: The environment.
        home: Where all that it writes goes.
        elsewhere: Where it is started.
    """

    folder: Path
    home: Path
    elsewhere: Path

    def __post_init__(self) -> None:
        self.elsewhere.mkdir()
        self.scripts = self.folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = str(self.scripts / "python")
        self.environment = {"MINIGPT_HOME": str(self.home), "PYTHONPATH": ""}

    def run(self, *words: str) -> str:
        """Run `minigpt-tui`; what it writes to stdout."""
        return command([str(self.scripts / "minigpt-tui"), *words], self.elsewhere, self.environment)

    def is_not_the_checkout(self) -> None:
        """See that the modules and the bundled files are those of the environment."""
        found = command([self.python, "-c", WHERE], self.elsewhere, self.environment).splitlines()
        if len(found) != 4 or not all(Path(path).resolve().is_relative_to(self.folder.resolve()) for path in found):
            raise Failed(f"this is not what was installed: {found}")

    def play(self) -> None:
        """See a text being written in the app, in a real terminal, and quit."""
        from terminal import Terminal

        app = [str(self.scripts / "minigpt-tui"), "--device", "cpu"]
        with contextlib.chdir(self.elsewhere), Terminal(app, self.environment) as terminal:
            terminal.until("1 of 3")  # the first steps of a first start
            terminal.type(PROMPT)
            terminal.press("enter")
            terminal.until(lambda shown: bool(re.search(r"[1-9]\d* of \d+ · context", shown)), 60)
            terminal.press("ctrl+q")
            if terminal.ends() != 0:
                raise Failed("the app has not ended well")


def command(words: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a program in a folder.

    Returns:
        What it writes to stdout.

    Raises:
        Failed: Its exit status is not 0.
    """
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"failed: {error}")
