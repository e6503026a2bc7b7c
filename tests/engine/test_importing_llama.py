"""A Llama from elsewhere is imported as transformers wrote it, with the tokenizers that Llamas have: it reads and
writes here what it reads and writes there. What cannot be carried is refused with the reason, before its weights are
read.
"""

from __future__ import annotations

import json

import pytest
import tokenizers
import torch
from tiny_models import TINY_TEXT
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from engine.checkpoints import export_model, load_model
from engine.config import SamplingParams
from engine.errors import CheckpointError, TokenizerError
from engine.formats.configuration import from_hf_config
from engine.formats.gguf_tokenizer import LLAMA3_WORDS
from engine.importing.imports import Wishes, import_model
from engine.inference.generator import Generation
from engine.text.byte_level import byte_values
from engine.text.tokenizers import Tokenizer

SIZES = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
    "intermediate_size": 72, "max_position_embeddings": 96,
}  # fmt: skip
SLOWED = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
PROMPT = "The fox went 1234 times to\nthe  river, it's"
READ_TOO = ["", " ", "12 345 a1b2", "  x\n\n 7", "é 東京 ½", "<s> <|endoftext|>"]


def smollm():
    """SmolLM's make: digits one by one, then GPT-2's pattern; `<|endoftext|>` is the first id."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    return trained(backend, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], 0, 0)


def llama3():
    """Llama 3's make: its pattern, words that are tokens taken whole, `<|begin_of_text|>` before each text."""
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(tokenizers.Regex(LLAMA3_WORDS), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    fast = trained(backend, ["<|begin_of_text|>", "<|end_of_text|>"], 0, 1)
    begins = processors.TemplateProcessing("<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begins])
    return type(fast)(tokenizer_object=backend, bos_token=fast.bos_token, eos_token=fast.eos_token)


def trained(backend, special, bos, eos):
    from transformers import PreTrainedTokenizerFast

    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, show_progress=False, initial_alphabet=sorted(byte_values())
    )
    backend.train_from_iterator([TINY_TEXT + " 12 345"], trainer)
    named = {"bos_token": special[bos], "eos_token": special[eos]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


TOKENIZERS = {"smollm": (smollm, {"tie_word_embeddings": True}), "llama3": (llama3, {"rope_parameters": SLOWED})}


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "own home"))


@pytest.fixture
def elsewhere(tmp_path):
    """A small Llama as transformers saves it, by the make of its tokenizer: the model, its tokenizer, its folder."""

    def save(make):
        from transformers import LlamaConfig, LlamaForCausalLM

        make_tokenizer, options = TOKENIZERS[make]
        tokenizer = make_tokenizer()
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        config = LlamaConfig(**SIZES, **options, **ids, vocab_size=len(tokenizer) + 3)
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.2)
        model.save_pretrained(tmp_path / make)
        tokenizer.save_pretrained(tmp_path / make)
        return model, tokenizer, tmp_path / make

    return save


def greedily(model, ids, count):
    """What transformers writes."""
    read = torch.tensor([ids])
    out = model.generate(
        read, attention_mask=torch.ones_like(read), max_new_tokens=count, do_sample=False, pad_token_id=0
    )
    return out[0, len(ids) :].tolist()


@pytest.mark.parametrize("make", TOKENIZERS)
def test_a_llama_reads_and_writes_what_it_does_in_transformers(elsewhere, tmp_path, make):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs, their_tokenizer, folder = elsewhere(make)
    import_model(folder, Wishes(name=make))
    ours = load_model(make, "cpu", "fp32")
    for text in [PROMPT, *READ_TOO]:
        if "<" not in text:  # what a user writes is text to the letter here
            assert ours.tokenizer.encode_prompt(text)[0] == their_tokenizer(text).input_ids, text
        assert ours.tokenizer.encode_prompt(text)[1:] == (text, "")
    ids, read, _ = ours.tokenizer.encode_prompt(PROMPT)
    assert read == PROMPT
    with torch.no_grad():
        x = torch.arange(96)[None] % ours.config.vocab_size
        assert (theirs(x).logits - ours.gpt(x)).abs().max() < 1e-4
    written = [token.token for token in Generation(ours, ids, SamplingParams(temperature=0.0, max_new_tokens=40))]
    assert written == greedily(theirs, ids, len(written))
    export_model(make, tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)
    assert type(again).__name__ == "LlamaForCausalLM"
    with torch.no_grad():
        assert torch.equal(again(x).logits, theirs(x).logits)
    assert AutoTokenizer.from_pretrained(tmp_path / "again")(PROMPT).input_ids == ids
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert (saved["bos_token_id"], saved["eos_token_id"]) == (theirs.config.bos_token_id, theirs.config.eos_token_id)


def test_what_llama_3_puts_before_a_text_is_read_and_never_shown(elsewhere):
    tokenizer = Tokenizer.open(elsewhere("llama3")[2])
    assert tokenizer.encode_prompt("")[0] == [tokenizer.bos_id] == [0]
    assert tokenizer.encode("fox") == tokenizer.encode_prompt("fox")[0][1:]
    assert tokenizer.decode(tokenizer.encode_prompt("fox")[0]) == "fox"
    assert tokenizer.piece(0) == "<|begin_of_text|>"
    conversation = "<|begin_of_text|>fox"  # a template says it itself
    assert tokenizer.encode_prompt(conversation, special=True)[0] == tokenizer.encode_prompt("fox")[0]


def sentencepiece(folder):
    """Llama 2's make."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    vocabulary |= {"▁": 259, "a": 260, "▁a": 261}
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>")])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer.model"])
def test_a_tokenizer_of_sentencepiece_is_refused_before_the_weights_are_read(elsewhere, file):
    folder = elsewhere("smollm")[2]
    sentencepiece(folder)
    if file == "tokenizer.model":  # the older form, without the newer
        (folder / "tokenizer.json").rename(folder / file)
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(TokenizerError, match="SentencePiece") as caught:
        import_model(folder, Wishes())
    assert "byte-level BPE" in caught.value.hint


WHOLE = {"model_type": "llama", "vocab_size": 300, "rms_norm_eps": 1e-5, **SIZES}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attention_bias": True}, "attention with biases"),
        ({"mlp_bias": True}, "an MLP with biases"),
        ({"hidden_act": "gelu"}, "the activation 'gelu'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary positions of type 'linear'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rotary positions of type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary positions of type 'yarn'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "no 'original_max_position_embeddings'"),
        ({"rope_parameters": SLOWED | {"factor": 0.5}}, "rope_factor is 0.5"),
        ({"rope_parameters": SLOWED | {"high_freq_factor": 1.0}}, "rope_slow must be the smaller one"),
        ({"rope_parameters": SLOWED | {"low_freq_factor": "low"}}, "cannot be used"),
        ({"model_type": "qwen3", "rope_parameters": SLOWED}, "rotary positions of type 'llama3'"),
        ({"hidden_size": 30, "head_dim": 8}, "multiple of n_head"),
    ],
)
def test_what_our_llama_cannot_compute_is_refused(changes, says):
    with pytest.raises(CheckpointError, match=says):
        from_hf_config(WHOLE | changes)


def test_what_a_config_leaves_out_is_what_transformers_takes():
    from transformers import LlamaConfig, Qwen3Config

    least = {key: value for key, value in WHOLE.items() if key not in ("rms_norm_eps", "num_key_value_heads")}
    ours, theirs = from_hf_config(least), LlamaConfig(**least)
    assert (ours.eps, ours.kv_heads, ours.head_size) == (theirs.rms_norm_eps, 4, theirs.head_dim)
    assert ours.tie_head is theirs.tie_word_embeddings is False
    assert ours.rope_theta == 10_000
    older = WHOLE | {"rope_theta": 100.0, "pretraining_tp": 2, "rope_scaling": SLOWED}  # tp changes no result
    assert from_hf_config(older) == from_hf_config(WHOLE | {"rope_parameters": SLOWED})
    qwen = WHOLE | {"model_type": "qwen3"}
    assert from_hf_config(qwen).head_size == Qwen3Config(**qwen).head_dim == 128
