"""A server that most tests ask, and the models that it serves."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import tokenizers
from endless import make_endless
from serving import ENDED, Server
from tiny_models import TINY_TEXT, make_tiny
from tokenizers import AddedToken

from engine.text.library import open_corpus
from engine.text.provenance import text_record
from engine.text.tokenizers import Tokenizer, train_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def talker(home: Path) -> Path:
    """A tiny model of byte pairs with special tokens and a ChatML template."""

    def with_specials(*asked) -> Tokenizer:
        plain = train_tokenizer(*asked)
        backend = tokenizers.Tokenizer.from_str(plain._backend.to_str())
        names = ("<|im_start|>", "<|im_end|>")
        backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
        return Tokenizer(backend, plain.eot_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.text.tokenizers.train_tokenizer", with_specials)
        path = make_tiny("talker", tokenizer="bpe", steps=3)
    (path / "chat_template.jinja").write_text(CHATML)
    return path


@pytest.fixture(scope="session")
def endless_model(home: Path) -> Path:
    """A model whose texts do not end."""
    return make_endless()


@pytest.fixture(scope="session")
def reader(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose own text is on this machine."""
    text = tmp_path_factory.mktemp("texts") / "river.txt"
    text.write_text(TINY_TEXT)
    path = make_tiny("reader", steps=5)
    record = msgspec.json.decode((path / "minigpt.json").read_bytes())
    record["data"] = text_record(open_corpus([text]))
    (path / "minigpt.json").write_bytes(msgspec.json.encode(record))
    return path


@pytest.fixture(scope="session")
def server(tiny_model: Path, talker: Path, endless_model: Path, reader: Path, tmp_path_factory: pytest.TempPathFactory):
    """One that serves them all, for this machine, without a key."""
    models = [word for name in ("tiny", "talker", "endless", "reader") for word in ("--model", name)]
    server = Server(tmp_path_factory.mktemp("server"), *models, "--max-new-tokens", "100000", "--max-batch", "16")
    try:
        yield server.wait()
    finally:
        assert server.end() == ENDED
