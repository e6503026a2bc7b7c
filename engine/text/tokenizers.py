"""Text to token ids and back: characters, bytes or byte-level BPE, stored as the `tokenizer.json` that the
`tokenizers` library and transformers open. What a user writes is text to the letter: a literal `<|endoftext|>` in it
never becomes the special token. Knows nothing of torch, models or files of text.

Ids: `char` has its characters sorted by code point from 0, `byte` has the 256 bytes in order, `bpe` the 256 bytes
and then what was merged; `<|endoftext|>` is the last id of each.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import AddedToken, decoders, models, trainers

from engine.config import SMALLEST_BPE
from engine.errors import TokenizerError
from engine.text.byte_level import byte_values, make_byte_level
from engine.text.cutting import Piece, cut, cut_documents, cut_long_words
from engine.text.kinds import TokenizerKind, check_ids, kind_of, of_sentencepiece, prefix_of
from engine.text.special_tokens import cut_at_names

END_OF_TEXT = "<|endoftext|>"
"""The token that stands between documents; it is the first and the last of every text."""

TokenArray = npt.NDArray[np.unsignedinteger[Any]]

_CHUNK = 1 << 16
_SURROGATES = re.compile("[\ud800-\udfff]")
# No pre-tokenizer of GPT-2's kind joins a letter or digit with white space that follows it, so a text cut there
# gives the same tokens as the whole.
_SAFE_CUT = re.compile(r"(?<=[^\W_])(?=[ \n\r\t])")


class Tokenizer:
    """A vocabulary with both directions.

    Attributes:
        kind: `char`, `byte` or `bpe`.
        vocab_size: Number of ids, V. A foreign model may have more rows than that; further ids stand for nothing.
        eot_id: Id of `<|endoftext|>`, or of what a foreign tokenizer ends a text with.
        prefix: Ids that a foreign tokenizer puts before every prompt, such as Llama 3's `<|begin_of_text|>`.
        alphabet: The characters that a char tokenizer knows; None when any text can be encoded.
    """

    def __init__(self, backend: tokenizers.Tokenizer, eot_id: int, config: dict[str, Any] | None = None) -> None:
        """Wrap a tokenizer of the library; `open` and `train_tokenizer` are the ways to get one.

        Args:
            backend: A char tokenizer or a byte-level BPE.
            eot_id: Id of the token that ends a text.
            config: What a foreign `tokenizer_config.json` says; kept when it is saved again.

        Raises:
            TokenizerError: It is of another kind, such as SentencePiece or WordPiece, or its ids have holes or doubles.
        """
        # Special tokens that a user writes are text, not commands to the model.
        backend.encode_special_tokens = True
        self._backend = backend
        self._config = config or {}
        self._added = {id: token.content for id, token in backend.get_added_tokens_decoder().items()}
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.eot_id = eot_id
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        plain = {token: id for token, id in vocabulary.items() if id not in self._added}
        self.kind: TokenizerKind = kind_of(backend, plain)
        check_ids(self.kind, vocabulary)
        self._ids = plain if self.kind == "char" else {}
        self.alphabet: frozenset[str] | None = frozenset(plain) if self.kind == "char" else None
        self.prefix = prefix_of(backend) if self.kind == "bpe" else ()
        self._bytes: dict[int, bytes] = {}  # of the tokens that were asked for

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, vocab_size={self.vocab_size})"

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without `<|endoftext|>` around it.

        Raises:
            TokenizerError: A character is not in the alphabet; the message names it.
        """
        if self.alphabet is None:
            if _SURROGATES.search(text):
                raise _unknown_characters(_SURROGATES.findall(text))
            return self._backend.encode(text, add_special_tokens=False).ids
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            raise _unknown_characters(self._unknown(text)) from None

    def encode_prompt(self, text: str, *, special: bool = False) -> tuple[list[int], str, str]:
        """The ids of what a model can read of a text, behind what its tokenizer puts before every prompt.

        Args:
            text: The text.
            special: Whether it was rendered from a chat template: the names of special tokens in it become those
                tokens, where `engine.text.special_tokens` has not marked them as somebody's words. What stands before
                a conversation the template itself says.

        Returns:
            The ids, the text that they stand for, and the characters that were left out, each once and in order.
        """
        if special:
            parts = cut_at_names(text, self._backend.get_added_tokens_decoder())
            read = [([part], "", "") if isinstance(part, int) else self._encode_words(part) for part in parts]
            ids = [id for part, _, _ in read for id in part]
            left_out = "".join(dict.fromkeys("".join(part for _, _, part in read)))
            return ids, self.decode(ids), left_out
        ids, read_text, left_out = self._encode_words(text)
        return [*self.prefix, *ids], read_text, left_out

    def _encode_words(self, text: str) -> tuple[list[int], str, str]:
        """`encode_prompt` of words alone, with nothing before them."""
        left_out = "".join(dict.fromkeys(self._unknown(text)))
        if left_out:
            text = text.translate({ord(character): None for character in left_out})
        ids = self.encode(text)
        # A foreign tokenizer may normalise what it reads (NFC, a space put in front).
        return ids, text if self.alphabet is not None else self.decode(ids), left_out

    def encode_array(self, text: str) -> TokenArray:
        """The ids of a long text as an array of shape (tokens,), uint16 when all ids fit and uint32 when not.

        Raises:
            TokenizerError: A character is not in the alphabet; the message names it.
        """
        if self.kind == "bpe":
            chunks = [np.array(self.encode(chunk), self.dtype) for chunk in _chunks(text)]
            return np.concatenate(chunks) if chunks else np.empty(0, self.dtype)
        if self.kind == "byte":
            if _SURROGATES.search(text):
                raise _unknown_characters(_SURROGATES.findall(text))
            codes: npt.NDArray[Any] = np.frombuffer(text.encode(), np.uint8)
        else:
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            codes = np.minimum(codes, len(self._table) - 1)
        ids: npt.NDArray[np.int64] = self._table[codes]
        if ids.size and ids.min() < 0:
            raise _unknown_characters(self._unknown(text))
        return ids.astype(self.dtype)

    def encode_arrays(self, texts: Sequence[str]) -> list[TokenArray]:
        """`encode_array` of texts as `chunks` gives them: faster for many short ones, and on all cores for `bpe`.

        Raises:
            TokenizerError: A character is not in the alphabet; the message names it.
        """
        if self.kind == "bpe":
            for text in texts:
                if _SURROGATES.search(text):
                    raise _unknown_characters(_SURROGATES.findall(text))
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
            return [np.array(encoding.ids, self.dtype) for encoding in encodings]
        ids = self.encode_array("".join(texts))
        lengths = [len(text) if self.kind == "char" or text.isascii() else len(text.encode()) for text in texts]
        return np.split(ids, np.cumsum(lengths)[:-1]) if texts else []

    def chunks(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Documents that come in pieces, cut where no token runs across."""
        return safe_chunks(pieces) if self.kind == "bpe" else iter(pieces)

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """Of an array of ids: uint16 when all ids fit and uint32 when not."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    def sha256(self) -> str:
        """Of all that decides which ids a text has: two tokenizers that share it encode alike."""
        return hashlib.sha256(f"{self.eot_id} {self._backend.to_str()}".encode()).hexdigest()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids; `<|endoftext|>` gives nothing, and bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for; b"" for what begins or ends a text, and outside the vocabulary."""
        if id not in self._bytes:
            if not 0 <= id < self.vocab_size:
                return b""
            self._bytes[id] = self._bytes_of(id)
        return self._bytes[id]

    def _bytes_of(self, id: int) -> bytes:
        if id == self.eot_id or id in self.prefix:
            return b""
        if id in self._added:
            return self._added[id].encode()
        token = self._backend.id_to_token(id)
        if token is None:
            return b""
        if self.kind == "char":
            return token.encode()
        values = byte_values()
        return b"".join(bytes([values[c]]) if c in values else c.encode() for c in token)

    def piece(self, id: int) -> str:
        """A token's own text for a reader: U+FFFD for half characters, the name for what begins or ends a text."""
        if id == self.eot_id or id in self.prefix:
            return self._added.get(id, END_OF_TEXT)
        return self.token_bytes(id).decode("utf-8", "replace")

    @property
    def bos_id(self) -> int:
        """Id of what a text begins with: `<|endoftext|>`, where the tokenizer puts nothing else before it."""
        return self.prefix[0] if self.prefix else self.eot_id

    def save(self, folder: Path, *, model_max_length: int | None = None) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`.

        Args:
            folder: Where to; it is made when it is not there.
            model_max_length: The model's `block_size` in tokens, when it is known.

        Raises:
            TokenizerError: The files cannot be written.
        """
        eot = self._added.get(self.eot_id, END_OF_TEXT)
        config: dict[str, Any] = {
            # Without the class, transformers takes a char model for a GPT-2 tokenizer and drops the spaces.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self._added.get(self.bos_id, eot),
            "eos_token": eot,
            "clean_up_tokenization_spaces": False,
            **{key: value for key, value in self._config.items() if key != "auto_map"},
        }
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "tokenizer.json").write_text(self._backend.to_str(pretty=True) + "\n", encoding="utf-8")
            text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
            (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
        except OSError as error:
            raise TokenizerError(f"the tokenizer cannot be written to {folder}", str(error)) from error

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """Open the tokenizer of a model's folder: ours, or a foreign byte-level one such as GPT-2's or Qwen3's.

        Raises:
            TokenizerError: The files are missing, damaged or of an unknown kind.
        """
        file = folder / "tokenizer.json"
        if file.is_file():
            try:
                backend = tokenizers.Tokenizer.from_file(str(file))
            except Exception as error:  # the library raises nothing narrower
                raise TokenizerError(f"{file} is damaged", f"take a fresh copy of the model ({error})") from error
        else:
            backend = _open_gpt2_files(folder)
        backend.no_truncation()
        backend.no_padding()
        config = _read_json(folder / "tokenizer_config.json")
        tokenizer = cls(backend, _find_eot(backend, folder, config), config)
        if tokenizer.kind != "bpe":
            # Behind a vocabulary that lost its end, the library gives special tokens other ids than the file does.
            for token in _read_json(file).get("added_tokens", ()):
                if tokenizer._added.get(token["id"]) != token["content"]:
                    raise TokenizerError(f"{file} is damaged", f"{token['content']} should have the id {token['id']}")
        return tokenizer

    @functools.cached_property
    def _table(self) -> npt.NDArray[np.int64]:
        """Ids by code point (char) or by byte (byte); -1 for what is unknown, which the last entry always is."""
        if self.kind == "byte":
            table = np.full(257, -1)
            for id in range(self.vocab_size):
                if id not in self._added and len(value := self.token_bytes(id)) == 1:
                    table[value[0]] = id
            return table
        table = np.full(max(map(ord, self._ids), default=0) + 2, -1)
        for character, id in self._ids.items():
            table[ord(character)] = id
        return table

    def _unknown(self, text: str) -> list[str]:
        if self.alphabet is None:
            return _SURROGATES.findall(text)
        return [character for character in text if character not in self.alphabet]


def train_tokenizer(kind: TokenizerKind, documents: Iterable[str], vocab_size: int = 1024) -> Tokenizer:
    """Make a tokenizer for a text; the same text gives the same tokenizer.

    Args:
        kind: `char` (an id per character of the text), `byte`, or `bpe` (byte-level, trained on the text).
        documents: The training text.
        vocab_size: Number of ids of `bpe`, at least 257; a short text may give fewer. The others know their own.

    Raises:
        TokenizerError: The kind is unknown, the text is empty, or the vocabulary is too small.
    """
    if kind == "char":
        characters = sorted(set().union(*documents))
        if not characters:
            raise TokenizerError("there is no text to take the characters from", "give a text that is not empty")
        if _SURROGATES.search("".join(characters)):
            raise _unknown_characters(_SURROGATES.findall("".join(characters)))
        backend = tokenizers.Tokenizer(models.BPE(vocab={c: id for id, c in enumerate(characters)}, merges=[]))
        backend.decoder = decoders.Fuse()
    elif kind == "byte":
        letters = {value: letter for letter, value in byte_values().items()}
        backend = tokenizers.Tokenizer(models.BPE(vocab={letters[value]: value for value in range(256)}, merges=[]))
        make_byte_level(backend)
    elif kind == "bpe":
        if vocab_size < SMALLEST_BPE:
            raise TokenizerError(f"vocab_size is {vocab_size}", f"a bpe tokenizer has at least {SMALLEST_BPE} ids")
        backend = tokenizers.Tokenizer(models.BPE())
        make_byte_level(backend)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=sorted(byte_values()),
        )
        backend.train_from_iterator((part for text in documents for part in cut_long_words(_chunks(text))), trainer)
    else:
        raise TokenizerError(f"there is no tokenizer {kind!r}", "choose char, byte or bpe")
    backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return Tokenizer(backend, eot_id=backend.get_vocab_size(with_added_tokens=True) - 1)


def safe_chunks(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Documents that come in pieces, cut where no token of any `bpe` tokenizer runs across."""
    return cut_documents(pieces, _SAFE_CUT, _CHUNK)


def _chunks(text: str) -> Iterator[str]:
    """A text in pieces, cut only where no token can run across."""
    return cut([text], _SAFE_CUT, _CHUNK)


def _unknown_characters(characters: Sequence[str]) -> TokenizerError:
    distinct = list(dict.fromkeys(characters))
    names = ", ".join(f"{ascii(c) if not c.isprintable() else repr(c)} (U+{ord(c):04X})" for c in distinct[:8])
    more = f" and {len(distinct) - 8} more" if len(distinct) > 8 else ""
    halves = all(map(_SURROGATES.match, distinct))
    hint = (
        "leave these out: they are halves of characters" if halves else "leave them out, or train on a text with them"
    )
    return TokenizerError(f"the tokenizer does not know {names}{more}", hint)


def _open_gpt2_files(folder: Path) -> tokenizers.Tokenizer:
    """GPT-2's older pair of files, vocab.json and merges.txt."""
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        if (folder / "tokenizer.model").is_file():
            raise of_sentencepiece()
        raise TokenizerError(
            f"there is no tokenizer in {folder}", "a model's folder has a tokenizer.json beside its weights"
        )
    try:
        backend = tokenizers.Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:  # the library raises nothing narrower
        raise TokenizerError(f"{vocab} or {merges.name} is damaged", f"take a fresh copy ({error})") from error
    make_byte_level(backend)
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend


def _find_eot(backend: tokenizers.Tokenizer, folder: Path, config: dict[str, Any]) -> int:
    """Id of `<|endoftext|>`, else of what the folder's files name as the end of a text."""
    eos = config.get("eos_token")
    for token in (END_OF_TEXT, eos.get("content") if isinstance(eos, dict) else eos):
        if isinstance(token, str) and (id := backend.token_to_id(token)) is not None:
            return id
    for name in ("generation_config.json", "config.json"):
        ids = _read_json(folder / name).get("eos_token_id")
        first = ids[0] if isinstance(ids, list) and ids else ids
        if type(first) is int and 0 <= first < 2**32 and backend.id_to_token(first) is not None:
            return first
    raise TokenizerError(
        f"the tokenizer in {folder} has no token for the end of a text",
        f"it needs {END_OF_TEXT}, or an eos_token in tokenizer_config.json",
    )


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{file} is damaged", f"take a fresh copy of the model ({error})") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{file} is damaged", "it should be a JSON object")
    return value
