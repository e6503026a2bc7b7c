"""What the engine's process and its client say to each other: one JSON object per line, each a typed struct.
Knows nothing of torch, so that the app can import it.

Order of events for a `Generate`: `Started`, then `Tokens` (or `Written`) and `ParamsChanged` as they come, then one
`Done`; or one `Error` with its id, at any point, instead of what is still to come. Every other request that is answered
has one answer, which may come between the events of a text.
"""

from __future__ import annotations

import functools

import msgspec

from engine.config import Device, Precision, SamplingParams
from engine.inference.stream import Alternative, ScoredToken, Token
from engine.worker.questions import AnyQuestion

PROTOCOL_VERSION = 5
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""No line is longer, in either direction."""

BATCH_SECONDS = 0.016
"""`Tokens` or `Written` of one generation come at most once in this time, or in a longer one where many are written."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """The base of all messages; its JSON carries the class's name as `type`."""


class ParamsAt(msgspec.Struct, frozen=True):
    """Settings that hold from the token at `position` on, counted from the start of the prompt."""

    position: int
    params: SamplingParams


# Requests. `id` is chosen by the client and is unique for its connection; all events that answer carry it.


class Load(Message, frozen=True, kw_only=True, tag="load"):
    """Make a model ready. Answered by `Loaded` (or `Error`). Loading again what is loaded costs nothing.

    Attributes:
        model: A name, a path or RUN:CHECKPOINT, as on the command line; empty for the default model.
    """

    id: int
    model: str = ""
    device: Device = "auto"
    precision: Precision = "auto"


class Generate(Message, frozen=True, kw_only=True, tag="generate"):
    """Write on from a prompt.

    Attributes:
        model: As in `Load`; loaded first when it is not.
        prompt: The text to write on from; empty to start from nothing.
        prompt_tokens: The same as token ids, where they are known exactly (to continue or fork a text without
            encoding it anew); `prompt` is then ignored.
        params: How to draw. With `seed` None the worker draws a seed and says it in `Started`.
        pace: Tokens per second at most; 0 for no limit.
        alternatives: How many of the likeliest tokens each token is reported with.
        changes: Settings from a position on, as they were changed in mid-stream: a recorded text is written again to
            the letter, at any pace. Each is told with `ParamsChanged` as a live change is; a live change of the
            settings drops those still to come. Their seeds are ignored.
        template: Whether `prompt` was rendered from a chat template: the names of special tokens in it become those
            tokens. What a user typed is never read like that.
        plain: Whether the text is wanted and nothing of its tokens: it is told with `Written`.
    """

    id: int
    model: str = ""
    device: Device = "auto"
    precision: Precision = "auto"
    prompt: str = ""
    prompt_tokens: tuple[int, ...] | None = None
    params: SamplingParams = SamplingParams()
    pace: float = 0.0
    alternatives: int = 0
    changes: tuple[ParamsAt, ...] = ()
    template: bool = False
    plain: bool = False


class SetParams(Message, frozen=True, kw_only=True, tag="set_params"):
    """Change a running generation from its next token on; `seed` is ignored (the noise stays the same).

    Attributes:
        id: The generation's id.
    """

    id: int
    params: SamplingParams | None = None
    pace: float | None = None


class Cancel(Message, frozen=True, kw_only=True, tag="cancel"):
    """End a running generation at the next token; what was written stays. Answered by its `Done`. Or give up a question
    that is answered by a process of its own, which ends; any other is answered all the same.
    """

    id: int


class Score(Message, frozen=True, kw_only=True, tag="score"):
    """How surprising is this text to the model? Answered by `Scored`.

    Attributes:
        tokens: The same as token ids, where they are known exactly; `text` is then ignored.
        alternatives: How many of the likeliest tokens each token is reported with.
    """

    id: int
    text: str
    model: str = ""
    device: Device = "auto"
    precision: Precision = "auto"
    tokens: tuple[int, ...] | None = None
    alternatives: int = 0


class Inspect(Message, frozen=True, kw_only=True, tag="inspect"):
    """Look inside the model at one place of a text. Answered by `Inspected`.

    Attributes:
        model: As in `Load`; loaded first when it is not.
        tokens: The text's ids from its start.
        position: The place, from 1 to len(tokens): what was drawn there is tokens[position], or nothing yet at the end.
        params: The settings that hold there; their filters make `drawn`.
        top: How many of the likeliest tokens to tell; 0 for all of a small vocabulary (up to 512 tokens), and else for
            50.
        attention: Whether to tell what each head looks at.
        lens: Whether to tell what each layer would guess.
    """

    id: int
    tokens: tuple[int, ...]
    position: int
    model: str = ""
    device: Device = "auto"
    precision: Precision = "auto"
    params: SamplingParams = SamplingParams()
    top: int = 0
    attention: bool = False
    lens: bool = False


class Ask(Message, frozen=True, kw_only=True, tag="ask"):
    """Something about the machine that the engine runs on. Answered by `Told`, also before torch is imported."""

    id: int
    question: AnyQuestion


class Shutdown(Message, frozen=True, kw_only=True, tag="shutdown"):
    """End the process; running generations are cut off. Closing its stdin does the same."""


Request = Load | Generate | SetParams | Cancel | Score | Inspect | Ask | Shutdown


# Events.


class Hello(Message, frozen=True, kw_only=True, tag="hello"):
    """The process is up and now imports torch; the first message of all."""

    protocol: int
    version: str
    pid: int


class Ready(Message, frozen=True, kw_only=True, tag="ready"):
    """torch is imported; requests are served from here on (earlier ones wait and are not lost).

    Attributes:
        torch: torch's version.
        devices: The devices that can be asked for, the preferred one first, such as ("cuda", "cpu").
    """

    torch: str
    devices: tuple[str, ...]
    threads: int


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a loaded model.

    Attributes:
        sha256: Hash of its weights file.
        val_loss: Recorded validation loss in nats per token, or None.
        trained_on: Name of the text, or empty.
    """

    name: str
    path: str
    family: str
    parameters: int
    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    tokenizer: str
    device: str
    precision: str
    sha256: str
    val_loss: float | None = None
    step: int | None = None
    trained_on: str = ""


class Loaded(Message, frozen=True, kw_only=True, tag="loaded"):
    """A model is ready."""

    id: int
    model: ModelInfo
    seconds: float


class Started(Message, frozen=True, kw_only=True, tag="started"):
    """A generation has begun.

    Attributes:
        prompt: The prompt as the model reads it (without the characters that it does not know).
        prompt_tokens: Its token ids.
        left_out: The characters of the prompt that the model has never seen, each once, in order.
        seed: The seed in use.
    """

    id: int
    prompt: str
    prompt_tokens: tuple[int, ...]
    seed: int
    left_out: str = ""


class Tokens(Message, frozen=True, kw_only=True, tag="tokens"):
    """Tokens of one generation, in order.

    Attributes:
        context: Tokens now in the model's window, and `block_size` is where it is full.
        tokens_per_second: Speed over the last second; 0 while unknown.
    """

    id: int
    tokens: tuple[Token, ...]
    context: int
    tokens_per_second: float = 0.0


class Written(Message, frozen=True, kw_only=True, tag="written", gc=False):
    """More of a text that is told plainly: as little as can be, where many are written at once."""

    id: int
    text: str


class ParamsChanged(Message, frozen=True, kw_only=True, tag="params_changed"):
    """`SetParams`, or one of the recorded changes, took effect: the token at `position` is the first one drawn with
    `params`.
    """

    id: int
    position: int
    params: SamplingParams


class Done(Message, frozen=True, kw_only=True, tag="done"):
    """A generation has ended.

    Attributes:
        finish_reason: length (max_new_tokens), stop (a stop string or the end-of-text token) or cancelled.
        text: What was still held back when it ended; it belongs at the end of the text.
        time_to_first_token: Seconds from the request, the model being loaded.
        tokens_per_second: After the first token; 0 when there was no second one.
    """

    id: int
    finish_reason: str
    text: str
    prompt_tokens: int
    new_tokens: int
    seed: int
    tokens_per_second: float
    time_to_first_token: float


class Scored(Message, frozen=True, kw_only=True, tag="scored"):
    """The answer to `Score`: loss in nats per token over all but the unconditioned start, and each token's share.

    Attributes:
        tokens: All but the first, which nothing stands before.
        left_out: As in `Started`.
        text: The text as the model read it.
        ids: Its tokens, the first included.
        ends: Where each of them ends in `text`, counted in characters; a half character ends where it began.
    """

    id: int
    loss: float
    perplexity: float
    bits_per_byte: float
    tokens: tuple[ScoredToken, ...]
    left_out: str = ""
    text: str = ""
    ids: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()


class Inspected(Message, frozen=True, kw_only=True, tag="inspected"):
    """The answer to `Inspect`. All of it is about the row that predicts `position`: the one that reads position - 1.

    Attributes:
        token: The text's token at `position`; None at its end.
        logprob: Of that token in the model's own distribution, before the filters; at most 0.
        rank: Of that token in the model's own distribution, from 1.
        drawn: Its probability after temperature and filters; 0 where they cut it.
        entropy: In nats, of the model's own distribution.
        distribution: The likeliest tokens, the likeliest first. The text's own is always among them: at the end where
            it is not of the likeliest.
        window_start: The first position that the model sees.
        attention: How much each head of that row looks at each place of the window: float16, little endian, of shape
            (n_layer, n_head, position - window_start). Each head's shares add up to 1. Empty unless asked for.
        lens: What the model would say if it ended after the embedding, and after each layer: n_layer + 1 times the
            LENS_TOKENS likeliest (their `drawn` says nothing). Empty unless asked for.
    """

    id: int
    position: int
    entropy: float
    distribution: tuple[Alternative, ...]
    window_start: int
    token: int | None = None
    logprob: float | None = None
    rank: int | None = None
    drawn: float | None = None
    attention: bytes = b""
    lens: tuple[tuple[Alternative, ...], ...] = ()


class Told(Message, frozen=True, kw_only=True, tag="told"):
    """The answer to `Ask`, of the kind that its question has; `questions.decode_answer` reads it."""

    id: int
    answer: msgspec.Raw


class Error(Message, frozen=True, kw_only=True, tag="error"):
    """Something failed; `id` is the request's, or None when it belongs to none.

    Attributes:
        kind: The name of the error's class in `engine.errors`, or `InternalError`.
    """

    id: int | None
    kind: str
    message: str
    hint: str = ""


Event = Hello | Ready | Loaded | Started | Tokens | Written | ParamsChanged | Done | Scored | Inspected | Told | Error

_encoder = msgspec.json.Encoder()


# Made with the first message: it reads every annotation above, and the app's first screen need not wait for that.
@functools.cache
def _request_decoder() -> msgspec.json.Decoder[Request]:
    return msgspec.json.Decoder(Request)


@functools.cache
def _event_decoder() -> msgspec.json.Decoder[Event]:
    return msgspec.json.Decoder(Event)


def encode(message: Message) -> bytes:
    """One message as a line of JSON, newline included."""
    return _encoder.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Read a request.

    Raises:
        msgspec.DecodeError: The line is not a request (msgspec.ValidationError, its subclass, when it is JSON).
    """
    return _request_decoder().decode(line)


def decode_event(line: bytes) -> Event:
    """Read an event; raises as `decode_request` does."""
    return _event_decoder().decode(line)
