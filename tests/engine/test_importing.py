"""An imported model computes what it computed where it came from, reads the characters that it read, and can be used
like any other: written with, evaluated and trained on. What its files do not tell is guessed and said.
"""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import safetensors.torch
import torch
from foreign_models import CHARACTERS, ITOS, STOI, TEXT, NanoGPT, TutorialGPT, V, windows
from test_model import CONFIGS, make
from training_here import TINY, new_run, take_up, tiny_text

from engine import catalog
from engine.catalog import Record
from engine.checkpoints import load_model, open_checkpoint, save_checkpoint
from engine.config import SamplingParams
from engine.errors import CheckpointError, InvalidSettingError, TokenizerError
from engine.evaluation import evaluate
from engine.importing.classic import Untold
from engine.importing.imports import Wishes, import_model
from engine.inference.generator import Generation
from engine.text.tokenizers import train_tokenizer


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "own home"))


def logits(path, ids):
    with torch.no_grad():
        return open_checkpoint(path)[0](ids)


def difference(imported, model, ids):
    """The largest of the logits that both have."""
    with torch.no_grad():
        theirs = model(ids)
    return (logits(imported.path, ids)[..., : theirs.shape[-1]] - theirs).abs().max().item()


def save_tutorial(model, folder, table=None):
    torch.save(model.state_dict(), folder / "gpt.pt")
    (folder / "chars.json").write_text(json.dumps({"char_to_integer": STOI} if table is None else table))
    return folder / "gpt.pt"


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("bias", [False, True], ids=["bias-free", "biases"])
@pytest.mark.parametrize("n_embd", [32, 96], ids=["narrow", "wide"])  # fewer and more channels than characters
def test_a_nanogpt_computes_the_logits_that_it_computed_there(tmp_path, bias, compiled, n_embd):
    model = NanoGPT(C=n_embd, bias=bias)
    model.save(tmp_path / "out", compiled=compiled)
    imported = import_model(tmp_path / "out", Wishes())
    assert imported.path.name == "out"
    assert difference(imported, model, windows(24)) < 1e-5
    record = catalog.read_record(imported.path)
    assert (record.step, record.data["name"]) == (5000, "shakespeare_char")
    assert record.losses["val"] == pytest.approx(1.4697)
    assert not catalog.verify_checkpoint(imported.path)


def test_an_older_nanogpt_has_gpt_2s_gelu(tmp_path):
    model = NanoGPT(approximate="tanh")
    path = model.save(tmp_path / "out")
    told = import_model(path, Wishes(name="told", untold=Untold(activation="gelu-tanh")))
    assert difference(told, model, windows(24)) < 1e-5
    guessed = import_model(path, Wishes(name="guessed"))
    assert difference(guessed, model, windows(24)) > 1e-5
    assert any("gelu" in note and "--activation gelu-tanh" in note for note in guessed.notes)


@pytest.mark.parametrize(
    "shape",
    [{}, {"C": 96}, {"by": "embd"}, {"sinusoidal": True}, {"projection": False}, {"by": "embd", "C": 96}],
    ids=lambda shape: "-".join(map(str, shape.values())) or "plain",
)
def test_a_tutorials_gpt_computes_the_logits_that_it_computed_there(tmp_path, shape):
    model = TutorialGPT(**shape)
    imported = import_model(
        save_tutorial(model, tmp_path), Wishes(untold=Untold(attention_scale=shape.get("by", "auto")))
    )
    assert difference(imported, model, windows(24)) < 1e-5
    config = open_checkpoint(imported.path)[0].config
    assert (config.n_head, config.block_size, config.activation_kind) == (4, 24, "relu")
    assert config.n_embd == (96 if "C" in shape else 64)  # more tokens than channels need channels of their own
    assert config.position_kind == ("sinusoidal" if "sinusoidal" in shape else "learned")


def test_attention_scaled_by_n_embd_is_another_model_and_the_guess_is_said(tmp_path):
    model = TutorialGPT(by="embd")
    imported = import_model(save_tutorial(model, tmp_path), Wishes())
    assert difference(imported, model, windows(24)) > 1e-3
    assert any("--attention-scale embd" in note for note in imported.notes)


@pytest.mark.parametrize("n_embd", [32, 96], ids=["narrow", "wide"])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_the_end_of_a_text_is_never_drawn_before_it_is_learned(tmp_path, n_embd, temperature):
    imported = import_model(save_tutorial(TutorialGPT(C=n_embd), tmp_path), Wishes())
    model = load_model(str(imported.path), "cpu", "fp32")
    assert model.tokenizer.eot_id == V
    out = logits(imported.path, windows(24))
    assert out[..., V].max() < out[..., :V].max(-1).values.min() - 40
    generation = Generation(model, [], SamplingParams(temperature=temperature, max_new_tokens=150, seed=3))
    assert len([token.token for token in generation]) == 150
    assert generation.finish_reason == "length"


@pytest.mark.parametrize("n_embd", [32, 96], ids=["narrow", "wide"])
def test_a_model_with_an_end_of_its_own_keeps_it_and_its_heads_bias_is_folded_in(tmp_path, n_embd):
    model = TutorialGPT(vocab_size=V + 1, C=n_embd)
    imported = import_model(save_tutorial(model, tmp_path, [*CHARACTERS, "<|endoftext|>"]), Wishes())
    gpt, tokenizer, _ = open_checkpoint(imported.path)
    assert (gpt.config.vocab_size, tokenizer.eot_id) == (V + 1, V)
    assert difference(imported, model, windows(24)) < 1e-5


def test_a_row_that_stood_for_nothing_becomes_the_end_of_a_text(tmp_path):
    model = NanoGPT(vocab_size=V + 9, C=96)
    imported = import_model(model.save(tmp_path / "padded"), Wishes())
    out = logits(imported.path, windows(24))
    with torch.no_grad():
        theirs = model(windows(24))
    assert out.shape[-1] == V + 9
    assert (out[..., V] + 50).abs().max() < 0.1
    others = [id for id in range(V + 9) if id != V]
    assert (out - theirs)[..., others].abs().max() < 1e-5


def test_an_empty_prompt_begins_as_a_new_line_does(tmp_path):
    imported = import_model(save_tutorial(TutorialGPT(), tmp_path), Wishes())
    out = logits(imported.path, torch.tensor([[V], [STOI["\n"]]]))
    assert torch.equal(out[0], out[1])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_an_imported_model_writes_greedily_what_it_wrote_there(tmp_path, precision):
    theirs = TutorialGPT(C=32, T=64)
    with torch.no_grad():  # a model that is sure of itself, so that coarser numbers say the same
        theirs.lm_head.weight.mul_(20)
    imported = import_model(save_tutorial(theirs, tmp_path), Wishes())
    model = load_model(str(imported.path), "cpu", precision)
    ids = [STOI[character] for character in "First"]
    written = [
        token.token for token in Generation(model, ids, SamplingParams(temperature=0.0, max_new_tokens=40, seed=1))
    ]
    for _ in range(40):
        with torch.no_grad():
            ids.append(int(theirs(torch.tensor([ids]))[0, -1].argmax()))
    same = sum(one == other for one, other in zip(written, ids[5:], strict=True))
    assert same == 40 if precision == "fp32" else V not in written


def test_an_imported_model_is_evaluated_and_trained_on(tmp_path):
    import_model(save_tutorial(TutorialGPT(), tmp_path), Wishes(name="theirs"))
    base = load_model("theirs", "cpu", "fp32")
    text = tiny_text(tmp_path, TEXT)
    config = TINY.replace(steps=60, learning_rate=3e-3, batch_size=8, block_size=24, eval_interval=60)
    trainer = take_up(new_run("fine", config, text, base=str(base.path)))
    trainer.train()
    loaded = load_model("fine", "cpu", "fp32")
    assert (loaded.config.n_inner, loaded.config.norm_eps) == (base.config.n_inner, base.config.norm_eps)
    before, after = (evaluate(each.gpt, each.tokenizer, trainer.text.val).loss for each in (base, loaded))
    assert after < before - 1


def test_weights_may_be_safetensors_and_go_by_other_names(tmp_path):
    model = NanoGPT(bias=True)
    renamed = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("transformer.h.", "model.layers.").replace("attn.c_proj", "attn.out_proj")
        if "c_attn" in name:
            for part, third in zip(("q_proj", "k_proj", "v_proj"), tensor.tensor_split(3), strict=True):
                renamed[name.replace("c_attn", part)] = third.contiguous()
        elif not name.endswith("lm_head.weight"):
            renamed[name.replace("transformer.wte", "tok_emb").replace("transformer.wpe", "pos_emb")] = tensor.clone()
    safetensors.torch.save_file(renamed, tmp_path / "gpt.safetensors")
    (tmp_path / "table.json").write_text(json.dumps(CHARACTERS))
    wishes = Wishes(characters=tmp_path / "table.json", untold=Untold(heads=4))
    assert difference(import_model(tmp_path / "gpt.safetensors", wishes), model, windows(24)) < 1e-5


def test_heads_that_shapes_do_not_tell_are_guessed_and_said(tmp_path):
    weights = NanoGPT(C=128, H=2).state_dict()
    safetensors.torch.save_file({name: each.clone() for name, each in weights.items()}, tmp_path / "gpt.safetensors")
    (tmp_path / "chars.json").write_text(json.dumps(CHARACTERS))
    imported = import_model(tmp_path / "gpt.safetensors", Wishes())
    assert open_checkpoint(imported.path)[0].config.n_head == 2
    assert any("2 heads of 64" in note and "--heads" in note for note in imported.notes)
    with pytest.raises(InvalidSettingError, match="4 heads"):
        import_model(save_tutorial(TutorialGPT(), tmp_path), Wishes(name="x", untold=Untold(heads=8)))


def test_half_precision_stays_where_nothing_is_folded_in(tmp_path):
    (tmp_path / "chars.json").write_text(json.dumps(["<|endoftext|>", *CHARACTERS]))
    weights = {name: tensor.bfloat16() for name, tensor in NanoGPT(vocab_size=V + 1).state_dict().items()}
    torch.save(weights, tmp_path / "gpt.pt")
    imported = import_model(tmp_path / "gpt.pt", Wishes(untold=Untold(heads=4)))
    gpt, tokenizer, _ = open_checkpoint(imported.path)
    assert gpt.head.weight.dtype == torch.bfloat16
    assert gpt.config.tie_head
    assert tokenizer.eot_id == 0
    assert torch.equal(gpt.embedding.weight, weights["transformer.wte.weight"])


@pytest.mark.parametrize(
    "table",
    [
        CHARACTERS,
        "".join(CHARACTERS),
        STOI,
        {"stoi": STOI, "itos": {str(id): character for id, character in ITOS.items()}},
        {"integer_to_char": CHARACTERS, "vocab_size": V},
        {"char_to_integer": STOI, "integer_to_char": {str(id): character for id, character in ITOS.items()}},
    ],
)
def test_a_table_of_characters_may_be_written_in_many_ways(tmp_path, table):
    imported = import_model(save_tutorial(TutorialGPT(L=1), tmp_path, table), Wishes())
    tokenizer = open_checkpoint(imported.path)[1]
    assert tokenizer.encode(TEXT[:50]) == [STOI[character] for character in TEXT[:50]]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([*CHARACTERS, "é", "è"], f"{V + 2} tokens and the model {V}"),
        ([*CHARACTERS[:-1], CHARACTERS[0]], "one character for two ids"),
        ({**STOI, "é": V + 7}, f"no character for the id {V}"),
        ({"stoi": STOI, "itos": dict(enumerate(reversed(CHARACTERS)))}, "two tables that differ"),
        ({"a": "b"}, "where an id belongs"),
        ([1, 2], "no character"),
        ([], "no character for the id 0"),
        (7, "no table of characters"),
        (["\ud800"], "no character"),
    ],
)
def test_a_table_that_cannot_be_the_models_is_refused(tmp_path, table, says):
    with pytest.raises(TokenizerError, match=says) as caught:
        import_model(save_tutorial(TutorialGPT(L=1), tmp_path, table), Wishes())
    assert caught.value.hint
    assert not list(tmp_path.glob("own home/data/checkpoints/*"))


def test_nanogpts_own_folders_are_enough(tmp_path):
    NanoGPT().save(tmp_path / "out-shakespeare-char", meta=False)
    (tmp_path / "data" / "shakespeare_char").mkdir(parents=True)
    meta = {"vocab_size": V, "itos": ITOS, "stoi": STOI}
    (tmp_path / "data" / "shakespeare_char" / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=2))
    imported = import_model(tmp_path / "out-shakespeare-char" / "ckpt.pt", Wishes())
    assert open_checkpoint(imported.path)[1].decode([STOI["F"], STOI["i"]]) == "Fi"


@pytest.mark.parametrize("as_file", [True, False], ids=["file", "folder"])
def test_a_padded_vocabulary_takes_its_own_tokenizer(tmp_path, as_file):
    tokenizer = train_tokenizer("bpe", [TEXT], 300)
    tokenizer.save(tmp_path / "bpe")
    (tmp_path / "bpe" / "tokenizer.json").rename(tmp_path / "bpe.json") if as_file else None
    model = NanoGPT(vocab_size=320)
    path = model.save(tmp_path / "out", meta=False, dataset="openwebtext")
    wishes = Wishes(tokenizer=tmp_path / ("bpe.json" if as_file else "bpe"))
    imported = import_model(path, wishes)
    assert difference(imported, model, windows(24, 320)) < 1e-5
    gpt, opened, _ = open_checkpoint(imported.path)
    assert (opened.kind, gpt.config.vocab_size, gpt.config.tie_head) == ("bpe", 320, True)
    with pytest.raises(TokenizerError, match="no table of the model's 320 tokens"):
        import_model(path, Wishes(name="without"))


def test_gpt_2s_vocabulary_without_a_tokenizer_asks_for_gpt_2s(tmp_path):
    path = NanoGPT(vocab_size=50_304, C=8, H=1, L=1).save(tmp_path / "out", meta=False)
    with pytest.raises(TokenizerError, match="GPT-2's") as caught:
        import_model(path, Wishes())
    assert "--tokenizer" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("blocks.1.ln2.weight"), "block 1 has no mlp_norm"),
        (lambda w: w.pop("blocks.0.sa.heads.2.key.weight"), "head 2 of block 0 has no attention.key"),
        (lambda w: w.pop("ln_f.weight"), "no final_norm"),
        (lambda w: w.pop("position_embedding_table.weight"), "no table of positions"),
        (
            lambda w: w.update({"blocks.0.sa.extra.weight": torch.ones(3)}),
            r"blocks\.0\.sa\.extra\.weight of shape \(3,\)",
        ),
        (lambda w: w.update({"blocks.0.sa.proj.weight": torch.ones(32, 30)}), r"sa\.proj\.weight is float32 of shape"),
        (lambda w: w.update({"lm_head.weight": torch.ones(V, 32, dtype=torch.int64)}), "int64"),
        (lambda w: w.update({"ln_f.bias": torch.full((32,), float("nan"))}), "no number"),
        (lambda w: [w.pop(name) for name in list(w) if name.startswith("blocks.0")], "no block 0"),
        (lambda w: w.update({"blocks.0.ffwd.net.4.weight": torch.ones(3)}), "3 layers where 2 belong"),
        (lambda w: w.update({"wte.weight": torch.ones(3)}), "the same part"),
        (lambda w: w.update({"h." * 500_000: torch.ones(3)}), "no part of a GPT"),
        (lambda w: w.clear(), "no weights"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, change, says):
    weights = TutorialGPT().state_dict()
    change(weights)
    torch.save(weights, tmp_path / "gpt.pt")
    (tmp_path / "chars.json").write_text(json.dumps(CHARACTERS))
    with pytest.raises(CheckpointError, match=says) as caught:
        import_model(tmp_path / "gpt.pt", Wishes())
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(tmp_path):
    """A model of a family as the hub has it: without our record."""

    def save(family="qwen3"):
        tokenizer = train_tokenizer("char", ["".join(chr(ord("A") + i) for i in range(36))])
        folder = tmp_path / f"hub-{family}"
        save_checkpoint(folder, make(CONFIGS[family], torch.float32), tokenizer, Record())
        (folder / "minigpt.json").unlink()
        return folder

    return save


@pytest.mark.parametrize("layout", ["one", "sharded", "pickled"])
@pytest.mark.parametrize("family", ["gpt2", "qwen3", "llama"])
def test_a_hugging_face_directory_is_copied_as_it_is(hub, tmp_path, family, layout):
    folder = hub(family)
    before = safetensors.torch.load_file(folder / "model.safetensors")
    if layout != "one":
        (folder / "model.safetensors").unlink()
    if layout == "pickled":
        torch.save(before, folder / "pytorch_model.bin")
    if layout == "sharded":
        names = sorted(before)
        for number, part in enumerate((names[:5], names[5:])):
            safetensors.torch.save_file({name: before[name] for name in part}, folder / f"model-{number}.safetensors")
        weight_map = {name: f"model-{int(name in names[5:])}.safetensors" for name in names}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    imported = import_model(folder, Wishes(name="copy"))
    after = safetensors.torch.load_file(imported.path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not catalog.verify_checkpoint(imported.path)
    assert catalog.read_record(imported.path).files
    assert json.loads((imported.path / "tokenizer_config.json").read_text())["chat_template"].startswith("{{")


def test_a_hugging_face_directory_that_is_another_model_is_refused(hub):
    folder = hub()
    config = json.loads((folder / "config.json").read_text())
    for change, says in (
        ({"model_type": "llama"}, r"[qk]_norm\.weight"),
        ({"model_type": "mamba"}, "mamba"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(CheckpointError, match=says):
            import_model(folder, Wishes())
    (folder / "config.json").write_text(json.dumps(config))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(32)
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"q_proj\.bias"):
        import_model(folder, Wishes())


def test_a_model_that_is_there_stays_unless_it_may_be_replaced(tmp_path, hub):
    first = import_model(hub("gpt2"), Wishes(name="mine"))
    before = (first.path / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="mine already"):
        import_model(hub("qwen3"), Wishes(name="mine"))
    assert (first.path / "model.safetensors").read_bytes() == before
    import_model(hub("nanochat"), Wishes(name="mine", replace=True))
    assert (first.path / "model.safetensors").read_bytes() != before


def test_a_path_without_a_model_says_what_is_missing(tmp_path):
    with pytest.raises(CheckpointError, match="neither"):
        import_model(tmp_path, Wishes())
    with pytest.raises(CheckpointError, match="there is no"):
        import_model(tmp_path / "nothing", Wishes())
    shutil.copy(__file__, tmp_path / "gpt.pt")
    with pytest.raises(CheckpointError, match="is not what"):
        import_model(tmp_path / "gpt.pt", Wishes())
