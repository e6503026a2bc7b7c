"""An ONNX folder holds the model that it was made of: onnxruntime writes what we write, with its cache and from any
prompt. A folder appears whole or not at all.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_tiny
from tokenizers import Tokenizer as TheirTokenizer

from engine.checkpoints import load_model
from engine.config import SamplingParams
from engine.errors import CheckpointError, InvalidSettingError
from engine.formats import onnx_file
from engine.formats.onnx_file import CachedStep, export_onnx
from engine.inference.generator import Generation

onnxruntime = pytest.importorskip("onnxruntime")
if not find_spec("onnxscript"):  # it takes half a second to import, and every process of these tests comes by here
    pytest.skip("could not import 'onnxscript'", allow_module_level=True)

SHAPES = {
    "gpt2": {"positions": "learned"},
    "nanochat": {},
    "qwen3": {"n_kv_head": 2},
    "llama": {"n_kv_head": 2},
}
PROMPT = "The fox went"


@pytest.fixture(scope="module", params=SHAPES)
def exported(request, tmp_path_factory):
    """A model of each family, and the folder that was made of it."""
    name = f"onnx-{request.param}"
    shape = {"n_layer": 1, "block_size": 128, "batch_size": 4, **SHAPES[request.param]}
    make_tiny(name, request.param, steps=40, **shape)
    folder = tmp_path_factory.mktemp("onnx") / name
    export_onnx(name, folder)
    return load_model(name, "cpu", "fp32"), folder


def open_session(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])


class Reader:
    """A text that is read a few tokens at a time, as the guide has it."""

    def __init__(self, session, folder, batch=1):
        self.session, self.place = session, 0
        config = json.loads((folder / "config.json").read_text())
        heads = config.get("num_key_value_heads") or config["n_head"]
        size = config.get("head_dim") or config["n_embd"] // config["n_head"]
        names = [each.name for each in session.get_inputs() if each.name.startswith("past_key_values")]
        self.past = {name: np.zeros((batch, heads, 0, size), np.float32) for name in names}

    def read(self, ids):
        ids = np.atleast_2d(np.array(ids, np.int64))
        places = np.arange(self.place, self.place + ids.shape[1])[None].repeat(len(ids), axis=0)
        logits, *present = self.session.run(None, {"input_ids": ids, "position_ids": places, **self.past})
        self.past = dict(zip(self.past, present, strict=True))
        self.place += ids.shape[1]
        return logits


def test_onnxruntime_writes_the_same_text_greedily_and_computes_the_same_logits(exported):
    model, folder = exported
    session = open_session(folder)
    tokenizer = TheirTokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(PROMPT).ids
    assert ids == model.tokenizer.encode(PROMPT)
    params = SamplingParams(temperature=0.0, max_new_tokens=100, seed=1)
    written = [token.token for token in Generation(model, ids, params)]
    assert len(written) == 100
    reader, theirs = Reader(session, folder), []
    logits = reader.read(ids)
    while len(theirs) < 100:
        theirs.append(int(logits[0, -1].argmax()))
        logits = reader.read([theirs[-1]])
    assert theirs == written

    text = torch.randint(model.config.vocab_size, (2, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model.gpt(text).numpy()
    for sizes in ([60], [1, 1, 58], [7, 50, 1, 2]):
        reader, start, parts = Reader(session, folder, batch=2), 0, []
        for size in sizes:
            parts.append(reader.read(text[:, start : start + size].numpy()))
            start += size
        assert np.abs(np.concatenate(parts, axis=1) - ours).max() < 1e-4, sizes


def test_the_script_of_the_guide_writes_what_we_write(exported, capsys):
    model, folder = exported
    guide = (Path(__file__).parents[2] / "docs" / "carry.md").read_text(encoding="utf-8")
    script = re.search(r"```python\n(.+?)```", guide, re.DOTALL)[1]
    exec(script.replace("fables-onnx", str(folder)).replace('"The fox", 100', f'"{PROMPT}", 50'), {})
    ids = model.tokenizer.encode(PROMPT)
    written = list(Generation(model, ids, SamplingParams(temperature=0.0, max_new_tokens=50, seed=1)))
    assert capsys.readouterr().out == PROMPT + "".join(token.text for token in written) + "\n"


def test_the_folder_holds_what_one_needs_and_its_names_are_the_usual_ones(exported):
    model, folder = exported
    files = {"model.onnx", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in folder.iterdir()} == files
    session = open_session(folder)
    assert [each.name for each in session.get_inputs()] == [
        "input_ids", "position_ids", "past_key_values.0.key", "past_key_values.0.value",
    ]  # fmt: skip
    assert [each.name for each in session.get_outputs()] == ["logits", "present.0.key", "present.0.value"]
    config = json.loads((folder / "config.json").read_text())
    assert config["eos_token_id"] == model.tokenizer.eot_id


@pytest.fixture
def without_torchs_exporter(monkeypatch):
    """Exporting takes seconds; where a folder appears is told without it."""

    class Program:
        def save(self, path):
            path.write_bytes(b"graph")

    monkeypatch.setattr(onnx_file, "_program", lambda gpt: Program())


def test_a_folder_that_is_there_stays_unless_it_is_such_a_one(tiny_model, tmp_path, without_torchs_exporter):
    folder = tmp_path / "model"
    export_onnx("tiny", folder)
    with pytest.raises(CheckpointError, match="exists already"):
        export_onnx("tiny", folder)
    export_onnx("tiny", folder, replace=True)
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match=r"notes\.txt"):
        export_onnx("tiny", folder, replace=True)
    with pytest.raises(CheckpointError, match=r"has no model\.onnx"):
        export_onnx("tiny", tmp_path, replace=True)
    assert (folder / "notes.txt").read_text() == "precious"


def test_a_folder_whose_writing_fails_half_way_is_not_there(tiny_model, tmp_path, monkeypatch):
    class Full:
        def save(self, path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_file, "_program", lambda gpt: Full())
    with pytest.raises(CheckpointError, match="No space left"):
        export_onnx("tiny", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_the_extra_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InvalidSettingError, match="not installed") as caught:
        export_onnx("tiny", tmp_path / "model")
    assert "minigpt-tui[onnx]" in caught.value.hint


def test_a_model_too_large_for_one_file_is_refused(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "LARGEST", 1000)
    with pytest.raises(CheckpointError, match="2 GB"):
        export_onnx("tiny", tmp_path / "model")


def test_the_step_is_the_models_own_arithmetic(tiny_model):
    """Also where the exporter is not installed."""
    gpt = load_model("tiny", "cpu", "fp32").gpt
    config = gpt.config
    text = torch.randint(config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(0))
    past = tuple(torch.zeros(1, config.kv_heads, 0, config.head_size) for _ in range(2 * config.n_layer))
    places, parts = torch.arange(20)[None], []
    for start, end in ((0, 7), (7, 8), (8, 20)):
        logits, *past = CachedStep(gpt)(text[:, start:end], places[:, start:end], tuple(past))
        parts.append(logits)
    assert (torch.cat(parts, dim=1) - gpt(text)).abs().max() < 1e-4
