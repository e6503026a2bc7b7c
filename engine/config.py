"""The settings of a model, of its training and of its sampling, frozen and validated. Knows nothing of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from engine.errors import InvalidSettingError
from engine.validation import Setting, Settings

Family = Literal["gpt2", "nanochat", "qwen3", "llama"]
Positions = Literal["auto", "learned", "sinusoidal", "rotary"]
Activation = Literal["auto", "gelu", "gelu_erf", "relu", "relu2", "silu"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]
Tracker = Literal["tensorboard", "mlflow"]
Device = Literal["auto", "cpu", "cuda", "mps"]

ENDLESS = -1
"""`max_new_tokens` for a text without an end."""

MAX_STEPS = 100_000_000
"""Optimizer steps in one run."""

WRITTEN_OUT = 1024
"""The longest windows whose attention is written out in bf16 on the CPU; its tables grow with the square of that."""

SMALLEST_BPE = 257
"""A byte-level vocabulary has the 256 bytes and `<|endoftext|>` at least."""

POSITIONS: dict[str, tuple[str, ...]] = {
    "gpt2": ("learned", "sinusoidal"),
    "nanochat": ("rotary",),
    "qwen3": ("rotary",),
    "llama": ("rotary",),
}
"""The kinds of position that each family knows, its default first."""

ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "gpt2": ("gelu", "gelu_erf", "relu"),
    "nanochat": ("relu2",),
    "qwen3": ("silu",),
    "llama": ("silu",),
}
"""The activations that each family knows, its default first. `gelu` is GPT-2's, by tanh; `gelu_erf` is torch's own."""


class Architecture(Settings, frozen=True, kw_only=True):
    """The shape of a model: what a training run and a finished model have in common."""

    family: Annotated[
        Family, Setting("which architecture: the classic, the fastest learner, the best connected, the most common")
    ] = "nanochat"
    n_layer: Annotated[int, Setting("number of transformer blocks", 1, 256)] = 4
    n_head: Annotated[int, Setting("attention heads in each block", 1, 256)] = 4
    n_kv_head: Annotated[int, Setting("heads of keys and values; 0 for as many as n_head", 0, 256)] = 0
    n_embd: Annotated[int, Setting("width of the residual stream", 1, 65536)] = 256
    block_size: Annotated[int, Setting("context length in tokens", 2, 1_048_576)] = 256
    dropout: Annotated[float, Setting("share of activations dropped while training", 0.0, 0.9)] = 0.0
    bias: Annotated[bool, Setting("whether linear layers and LayerNorm have biases (gpt2 alone)")] = False
    positions: Annotated[Positions, Setting("how a token knows its place; auto is the family's own")] = "auto"
    activation: Annotated[Activation, Setting("the MLP's activation; auto is the family's own")] = "auto"
    tie_head: Annotated[bool, Setting("whether the output layer shares the embedding's weights")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_head % self.kv_heads:
            raise InvalidSettingError(
                f"n_head is {self.n_head} and n_kv_head {self.n_kv_head}", "n_head must be a multiple of n_kv_head"
            )
        if self.family == "gpt2" and self.kv_heads != self.n_head:
            raise InvalidSettingError(
                "the gpt2 family has as many key-value heads as heads", "leave n_kv_head 0, or choose qwen3"
            )
        if self.family != "gpt2" and self.bias:
            raise InvalidSettingError(f"the {self.family} family has no biases", "set bias=false, or family=gpt2")
        for name, value, known in (
            ("positions", self.positions, POSITIONS[self.family]),
            ("activation", self.activation, ACTIVATIONS[self.family]),
        ):
            if value not in ("auto", *known):
                raise InvalidSettingError(
                    f"the {self.family} family has no {name}={value}", f"choose {' or '.join(('auto', *known))}"
                )

    @property
    def kv_heads(self) -> int:
        """Number of key-value heads, with 0 read as `n_head`."""
        return self.n_kv_head or self.n_head

    @property
    def position_kind(self) -> str:
        """`positions`, with auto resolved."""
        return POSITIONS[self.family][0] if self.positions == "auto" else self.positions

    @property
    def activation_kind(self) -> str:
        """`activation`, with auto resolved."""
        return ACTIVATIONS[self.family][0] if self.activation == "auto" else self.activation

    @property
    def has_norm_weights(self) -> bool:
        """Whether the norms have weights."""
        return self.family != "nanochat"

    @property
    def norms_heads(self) -> bool:
        """Whether each head's queries and keys are normed."""
        return self.family in ("nanochat", "qwen3")

    @property
    def is_gated(self) -> bool:
        """Whether the MLP has a third matrix, the gate."""
        return self.activation_kind == "silu"


class ModelConfig(Architecture, frozen=True, kw_only=True):
    """All that is needed to build a `GPT`.

    Attributes:
        vocab_size: Number of token ids, V.
        head_dim: Width of one head, D; 0 for n_embd // n_head.
        n_inner: Width of the MLP; 0 for the family's own (4 n_embd, or 8/3 n_embd rounded up for SwiGLU).
        logit_soft_cap: Logits are bounded to ±this by tanh; 0 for no cap.
        rope_theta: Base of the rotary frequencies.
        rope_factor: How many times slower the slow rotary frequencies are, as Llama 3.1's; 1 for none.
        rope_context: Tokens in which turns are counted: the context before it was made longer.
        rope_slow: Frequencies of at most so many turns are slowed by the whole factor.
        rope_fast: Frequencies of at least so many turns are not slowed; those between are by a part of it.
        norm_eps: What the norms add to the variance; 0 for the family's own.
    """

    vocab_size: Annotated[int, Setting("number of token ids", 1, 10_000_000)]
    head_dim: Annotated[int, Setting("width of one head; 0 for n_embd / n_head", 0, 4096)] = 0
    n_inner: Annotated[int, Setting("width of the MLP; 0 for the family's own", 0, 1_000_000)] = 0
    logit_soft_cap: Annotated[float, Setting("bound on the logits; 0 for none", 0.0, 1000.0)] = 0.0
    rope_theta: Annotated[float, Setting("base of the rotary frequencies", above=0.0)] = 10_000.0
    rope_factor: Annotated[
        float, Setting("how many times slower slow rotary frequencies are (llama alone)", 1.0, 1e6)
    ] = 1.0
    rope_context: Annotated[int, Setting("tokens in which their turns are counted", 1, 1_048_576)] = 8192
    rope_slow: Annotated[float, Setting("turns up to which they are slowed by all of that", 0.0, 1e6)] = 1.0
    rope_fast: Annotated[float, Setting("turns from which they are not slowed", 0.0, 1e6)] = 4.0
    norm_eps: Annotated[float, Setting("added to the variance; 0 for the family's own", 0.0, 1.0)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        # transformers wants it of every Llama, also of one that says how wide its heads are
        if (not self.head_dim or self.family == "llama") and self.n_embd % self.n_head:
            raise InvalidSettingError(
                f"n_embd is {self.n_embd} and n_head {self.n_head}", "n_embd must be a multiple of n_head"
            )
        if self.family == "gpt2" and self.head_dim and self.head_dim * self.n_head != self.n_embd:
            raise InvalidSettingError("the gpt2 family's heads share n_embd evenly", "leave head_dim 0")
        if self.position_kind == "rotary" and self.head_size % 2:
            raise InvalidSettingError(
                f"heads are {self.head_size} wide", "rotary positions need an even width; change n_embd or n_head"
            )
        if self.logit_soft_cap and self.family != "nanochat":
            raise InvalidSettingError(f"the {self.family} family has no soft cap", "set logit_soft_cap=0")
        if self.rope_factor != 1 and self.family != "llama":
            raise InvalidSettingError(f"the {self.family} family has no slowed frequencies", "set rope_factor=1")
        if self.rope_slow >= self.rope_fast:
            raise InvalidSettingError(
                f"rope_slow is {self.rope_slow:g} and rope_fast {self.rope_fast:g}", "rope_slow must be the smaller one"
            )

    @property
    def head_size(self) -> int:
        """Width of one head, D."""
        return self.head_dim or self.n_embd // self.n_head

    @property
    def inner_size(self) -> int:
        """Width of the MLP."""
        if self.n_inner:
            return self.n_inner
        if self.is_gated:  # three matrices instead of two: two thirds of the width, in steps of 32
            return -(-8 * self.n_embd // (3 * 32)) * 32
        return 4 * self.n_embd

    @property
    def eps(self) -> float:
        """What the norms add to the variance."""
        return self.norm_eps or (1e-5 if self.family == "gpt2" else 1e-6)


class TrainConfig(Architecture, frozen=True, kw_only=True):
    """Everything that decides what a training run does, beside its text."""

    tokenizer: Annotated[
        Literal["char", "byte", "bpe"], Setting("one id per character, per byte, or byte-pair encoding of the text")
    ] = "char"
    vocab_size: Annotated[
        int, Setting("size of a bpe vocabulary; the others follow from the text", SMALLEST_BPE, 1_000_000)
    ] = 1024
    logit_soft_cap: Annotated[float, Setting("bound on the logits (nanochat alone); 0 for none", 0.0, 1000.0)] = 0.0
    normalize: Annotated[
        tuple[Literal["nfc", "newlines", "lowercase"], ...], Setting("what is made uniform in the text first")
    ] = ()
    steps: Annotated[int, Setting("optimizer steps", 1, MAX_STEPS)] = 1000
    epochs: Annotated[
        float | None, Setting("length in passes over the text, instead of steps", above=0.0, high=1_000_000)
    ] = None
    batch_size: Annotated[int, Setting("sequences in one forward pass", 1, 65536)] = 16
    accumulation: Annotated[int, Setting("forward passes in one optimizer step", 1, 65536)] = 1
    optimizer: Annotated[Literal["muon", "adamw"], Setting("Muon for the blocks' matrices, or AdamW alone")] = "muon"
    learning_rate: Annotated[float, Setting("AdamW's peak learning rate", above=0.0, high=10.0)] = 3e-3
    embedding_learning_rate: Annotated[
        float, Setting("AdamW's peak for the embedding and the positions; 0 for learning_rate", 0.0, 10.0)
    ] = 0.0
    muon_learning_rate: Annotated[float, Setting("Muon's peak learning rate", above=0.0, high=10.0)] = 0.02
    min_learning_rate: Annotated[float, Setting("the last learning rate, as a share of the peak", 0.0, 1.0)] = 0.0
    schedule: Annotated[
        Literal["linear", "cosine"], Setting("after warm-up: constant then linear, or cosine from the start")
    ] = "linear"
    constant_until: Annotated[float, Setting("where the linear decay begins, as a share of all steps", 0.0, 1.0)] = 0.4
    warmup_steps: Annotated[int, Setting("steps over which the learning rate rises from zero", 0, 10_000_000)] = 20
    weight_decay: Annotated[
        float, Setting("decay of matrices and an untied head; vectors, embeddings and positions never decay", 0.0, 10.0)
    ] = 0.0
    beta1: Annotated[float, Setting("AdamW's first-moment decay", 0.0, 0.9999)] = 0.9
    beta2: Annotated[float, Setting("AdamW's second-moment decay", 0.0, 0.99999)] = 0.95
    muon_momentum: Annotated[float, Setting("Muon's momentum", 0.0, 0.9999)] = 0.95
    momentum_warmup_steps: Annotated[
        int, Setting("steps over which Muon's momentum rises from 0.85, where it is to be above that", 0, 10_000_000)
    ] = 0
    average: Annotated[
        float,
        Setting(
            "evaluate and keep a running mean of the weights over this share of the steps so far; 0 for none", 0.0, 0.5
        ),
    ] = 0.0
    grad_clip: Annotated[float, Setting("largest gradient norm; 0 for no clipping", 0.0, 1e6)] = 1.0
    precision: Annotated[
        TrainPrecision, Setting("arithmetic of the forward pass; auto takes bf16 where it gains, fp16 scales the loss")
    ] = "auto"
    compile: Annotated[
        Literal["auto", "on", "off"], Setting("torch.compile: auto on CUDA alone, where it pays for its warm-up")
    ] = "auto"
    parallel: Annotated[
        Literal["ddp", "fsdp"], Setting("with --nproc: each process holds the whole model, or a share of it")
    ] = "ddp"
    eval_interval: Annotated[int, Setting("steps between evaluations; 0 for one at the end", 0, MAX_STEPS)] = 250
    eval_tokens: Annotated[
        int, Setting("validation tokens used while training, spread over the split; the end uses all", 1, 2**62)
    ] = 65_536
    save_interval: Annotated[
        int, Setting("steps between checkpoints, beside each new best; 0 for one with each evaluation", 0, MAX_STEPS)
    ] = 0
    sample_interval: Annotated[int, Setting("steps between samples; 0 for one with each evaluation", 0, MAX_STEPS)] = 0
    sample_prompt: Annotated[str, Setting("what the samples begin with")] = ""
    sample_tokens: Annotated[int, Setting("length of a sample in tokens", 1, 100_000)] = 200
    seed: Annotated[int, Setting("of the weights, the batches and the dropout", 0, 2**63 - 1)] = 1337
    patience: Annotated[int, Setting("evaluations without a gain before stopping early; 0 for never", 0, 10**6)] = 0
    trackers: Annotated[
        tuple[Tracker, ...], Setting("who is told of the run beside its own files: tensorboard, mlflow")
    ] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.model_config(vocab_size=2)  # a shape that cannot be built is refused here, not at the first step

    def model_config(self, vocab_size: int) -> ModelConfig:
        """The model that this run trains, with its dropout.

        Args:
            vocab_size: The tokenizer's number of ids.
        """
        shape = {name: getattr(self, name) for name in Architecture.__struct_fields__}
        return ModelConfig(**shape, vocab_size=vocab_size, logit_soft_cap=self.logit_soft_cap)


class SamplingParams(Settings, frozen=True, kw_only=True):
    """How the next token is drawn. Filters act in the order of their declaration, as transformers has them."""

    repetition_penalty: Annotated[float, Setting("above 1 makes what was said less likely", 0.1, 10.0)] = 1.0
    temperature: Annotated[float, Setting("0 is greedy; below 1 safer, above 1 wilder", 0.0, 10.0)] = 0.8
    top_k: Annotated[int, Setting("draw from the K most likely tokens; 0 is off", 0, 10_000_000)] = 0
    top_p: Annotated[
        float, Setting("draw from the likeliest tokens that hold this probability", above=0.0, high=1.0)
    ] = 1.0
    min_p: Annotated[float, Setting("drop tokens under this share of the likeliest one's probability", 0.0, 1.0)] = 0.0
    max_new_tokens: Annotated[
        int, Setting("length of the text in tokens; -1 is endless", 1, 2**31, also=(ENDLESS,))
    ] = 500
    seed: Annotated[int | None, Setting("the same seed gives the same text; none draws one", 0, 2**63 - 1)] = None
    stop: Annotated[tuple[str, ...], Setting("the text ends before any of these")] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if "" in self.stop:
            raise InvalidSettingError("a stop string is empty", "leave it out, or give it at least one character")
