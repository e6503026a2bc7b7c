"""A file of our export in llama.cpp's own `llama-server`, played with through the link. Skipped where that program is
neither on the PATH nor named by MINIGPT_LLAMA_SERVER.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import tiny_models
from run_maker import until
from test_connect import Talk, wish

from engine.worker.protocol import Cancel, Done, Load, Loaded, Score, Scored, Started

PROGRAM = os.environ.get("MINIGPT_LLAMA_SERVER") or shutil.which("llama-server")
pytestmark = pytest.mark.skipif(not PROGRAM, reason="llama-server is not installed")

TEXT = "Der Fuchs ging über den Fluß: „Wer geht dort?“ 狐は川へ行った。🦊🌊 Naïve café — élan!\n" * 12
PROMPTS = ("Der", "狐", "„Wer", "über den")
CONTEXT = 256
PRECISELY = ("-fa", "off", "-ctk", "f32", "-ctv", "f32")


@pytest.fixture(scope="module")
def name():
    """A model whose tokens are bytes, so that most characters of its text are of several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "TINY_TEXT", TEXT)
        return tiny_models.make_tiny("served", "qwen3", "byte", steps=60, block_size=CONTEXT).name


@pytest.fixture(scope="module")
def url(name, tmp_path_factory: pytest.TempPathFactory):
    """Where the server listens."""
    pytest.importorskip("gguf")
    from engine.formats.gguf_file import export_gguf

    folder = tmp_path_factory.mktemp("served")
    export_gguf(name, folder / "served.gguf")
    model = ("-m", str(folder / "served.gguf"), "-c", "0", "-t", "1")
    command = [PROGRAM, *model, "--host", "127.0.0.1", "--port", "0", *PRECISELY]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield address_of(folder / "log", process)
        finally:
            process.terminate()


def address_of(log: Path, process: subprocess.Popen[bytes]) -> str:
    """What it says to listen at."""
    end = time.monotonic() + 60
    while not (found := re.search(rb"http://127\.0\.0\.1:\d+", log.read_bytes())):
        assert process.poll() is None, log.read_bytes()
        assert time.monotonic() < end, log.read_bytes()
        time.sleep(0.05)
    return found[0].decode()


@pytest.fixture
async def talk(url):
    talk = Talk(url)
    loaded = await talk.ask(Load(id=1000), Loaded)
    assert (loaded.model.block_size, loaded.model.parameters > 0) == (CONTEXT, True)
    yield talk
    await talk.bridge.close()


def params(prompt: str) -> dict[str, object]:
    return {"temperature": 0.0, "max_new_tokens": CONTEXT - len(prompt.encode())}


async def test_greedy_text_through_it_is_ours(talk, name):
    from engine.checkpoints import load_model
    from engine.config import SamplingParams
    from engine.inference.generator import Generation

    model = load_model(name, "cpu", "fp32")
    for id, prompt in enumerate(PROMPTS):
        talk.events.clear()
        done = await talk.ask(wish(id=id, prompt=prompt, model="", params=params(prompt)))
        settings = SamplingParams(seed=1, **params(prompt))
        ours = list(Generation(model, model.tokenizer.encode(prompt), settings))
        assert (talk.text, done.finish_reason) == ("".join(token.text for token in ours), "length")
        # Characters of one byte, before which none was held back, have figures: those that we have for that byte.
        figures = {token.position: token.logprob for token in ours}
        place = len(prompt.encode())
        for token in talk.tokens:
            if len(token.text.encode()) == 1:
                assert token.logprob == pytest.approx(figures[place], abs=1e-3)
                assert token.top[0].text == token.text
            place += len(token.text.encode())


async def test_a_text_begins_with_nothing_and_goes_on_past_the_context(talk, name):
    done = await talk.ask(wish(prompt="", model="", params={"temperature": 0.0, "max_new_tokens": 2 * CONTEXT}))
    [started] = [said for said in talk.events if isinstance(said, Started)]
    assert (started.prompt, len(started.prompt_tokens), done.finish_reason) == ("", 1, "length")
    assert len(talk.text.encode()) > CONTEXT
    talk.events.clear()
    done = await talk.ask(wish(id=2, prompt=TEXT[: 3 * CONTEXT], model="", params={"max_new_tokens": 20}))
    assert done.finish_reason == "length"


async def test_a_text_is_stopped_and_scoring_is_refused_in_words(talk):
    talk.bridge.take(wish(prompt="Der", model="", params={"max_new_tokens": -1}, pace=60.0))
    await until(lambda: len(talk.tokens) >= 3)
    talk.bridge.take(Cancel(id=1))
    assert (await talk.until(Done)).finish_reason == "cancelled"
    assert "does not tell how likely" in (await talk.ask(Score(id=2, text="Der Fuchs"), Scored)).message
