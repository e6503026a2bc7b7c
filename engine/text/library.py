"""Texts by name: those that ship with the project, the running Python's own sources, what can be downloaded, and what
the user put beside it. Promises that a download is whole and checked, or not there at all. Knows nothing of tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from engine import folders
from engine.errors import DataError
from engine.text.corpus import (
    FOLDER_SUFFIXES,
    Corpus,
    Normalization,
    join_digests,
    list_files,
    read_corpus,
    read_documents,
    split_documents,
)
from engine.validation import nearest_hint

TIMEOUT = 30.0
"""Seconds without a byte after which a download is given up."""

STDLIB = "stdlib"

# Tests and what is installed beside the library are not its sources; the others are tables made by programs.
_NOT_STDLIB = frozenset({"test", "tests", "idlelib", "idle_test", "site-packages", "dist-packages", "__pycache__"})
_TABLES = frozenset({"encodings", "pydoc_data"})

_BLOCK = 1 << 16

State = Literal["ready", "to download"]
Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes that there will be."""


class Download(msgspec.Struct, frozen=True):
    """A text that is fetched on demand.

    Attributes:
        url: Where it comes from.
        sha256: Of its bytes.
        size: In bytes.
        about: What it is, in a few words.
    """

    url: str
    sha256: str
    size: int
    about: str


DOWNLOADS = {
    "tinyshakespeare": Download(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
        about="40,000 lines of Shakespeare's plays, the text of char-rnn and nanoGPT",
    )
}


class LibraryText(msgspec.Struct, frozen=True):
    """One text of the library.

    Attributes:
        name: What `find_text` knows it by.
        path: The file or folder; where it will be when it is yet to be downloaded.
        bytes: Its size, also before it is downloaded.
        state: Whether it can be read now.
        about: Where it comes from, in a few words.
    """

    name: str
    path: Path
    bytes: int
    state: State
    about: str


class TextFacts(msgspec.Struct, frozen=True):
    """What there is to know of a text before a model is trained on it.

    Attributes:
        name: What it is called.
        files: Number of files.
        documents: Number of documents.
        bytes: Size of the files.
        characters: Number of characters.
        distinct_characters: Size of its alphabet: a char tokenizer has one id more.
        lines: Number of lines.
        train_characters: Characters in the training split.
        val_characters: Characters in the validation split.
        sha256: Hash of what the files hold.
        most_common: The most common characters with their counts.
        beginning: Its first characters.
    """

    name: str
    files: int
    documents: int
    bytes: int
    characters: int
    distinct_characters: int
    lines: int
    train_characters: int
    val_characters: int
    sha256: str
    most_common: tuple[tuple[str, int], ...]
    beginning: str


def list_texts() -> list[LibraryText]:
    """All texts that have a name: bundled ones first, then the standard library, downloads and the user's own."""
    texts = {text.name: text for text in _bundled()}
    files = stdlib_files()
    if files:
        about = "the sources of the Python that runs this, read where they are"
        texts[STDLIB] = LibraryText(STDLIB, _stdlib_folder(), _size(files), "ready", about)
    for name, source in DOWNLOADS.items():
        path = _target(name)
        here = path.is_file()
        size = path.stat().st_size if here else source.size
        texts[name] = LibraryText(name, path, size, "ready" if here else "to download", source.about)
    for text in _users():
        if text.path != _target(text.name) or text.name not in DOWNLOADS:
            name = text.path.name if text.name in texts else text.name
            texts.setdefault(name, msgspec.structs.replace(text, name=name))
    return list(texts.values())


def find_text(name_or_path: str | os.PathLike[str]) -> list[Path]:
    """The files of a text: of the file or folder, when there is one at that path, or of the text of that name.

    Raises:
        DataError: There is neither; the nearest name is given. Or the text is yet to be downloaded.
    """
    path = Path(name_or_path)
    with contextlib.suppress(OSError):  # too long for a path, but perhaps for a name as well
        if path.exists():
            return list_files([path])
    name = os.fspath(name_or_path)
    if name == STDLIB and (files := stdlib_files()):
        return files
    texts = {text.name: text for text in list_texts()}
    if name not in texts:
        if os.sep in name or path.suffix:
            raise DataError(f"there is no file {name}", "check the path; `minigpt-tui data list` shows texts by name")
        raise DataError(f"there is no text {name!r}", nearest_hint(name, texts))
    if texts[name].state == "to download":
        raise DataError(f"{name} is not downloaded yet", f"minigpt-tui data get {name}")
    return list_files([texts[name].path])


def open_corpus(
    names: Sequence[str | os.PathLike[str]],
    *,
    val: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    column: str | None = None,
    normalize: Iterable[Normalization] = (),
) -> Corpus:
    """`read_corpus` for names and paths: its sources are the names, and absolute paths, so that they can be read again.

    Raises:
        DataError: A text is unknown, or cannot be read.
    """
    corpus = read_corpus(
        [file for name in names for file in find_text(name)],
        val=find_text(val) if val is not None else None,
        test=find_text(test) if test is not None else None,
        column=column,
        normalize=normalize,
        name="-".join(map(text_name, names[:3])),
    )
    files = dict(corpus.files)
    for split, given in (("train", names), ("val", [val]), ("test", [test])):
        if split in files:
            sources = tuple(findable(source) for source in given if source is not None)
            files[split] = msgspec.structs.replace(files[split], sources=sources)
    return msgspec.structs.replace(
        corpus, files=files, sources=tuple(source for split in files.values() for source in split.sources)
    )


def findable(name_or_path: str | os.PathLike[str]) -> str:
    """The name of a text, or its absolute path when there is something at that path."""
    path = Path(name_or_path)
    return str(path.absolute()) if path.exists() else os.fspath(name_or_path)


def describe(name_or_path: str | os.PathLike[str], *, column: str | None = None, beginning: int = 400) -> TextFacts:
    """Facts about a text.

    Args:
        name_or_path: As for `find_text`.
        column: Where the text is in CSV and JSONL files.
        beginning: How many characters of its beginning to give.

    Raises:
        DataError: The text is unknown, or cannot be read.
    """
    files = find_text(name_or_path)
    texts, digests = read_documents(files, column=column)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    train, val = (sum(map(len, split)) for split in split_documents(texts))
    return TextFacts(
        name=text_name(name_or_path),
        files=len(files),
        documents=len(texts),
        bytes=_size(files),
        characters=train + val,
        distinct_characters=len(counts),
        lines=sum(text.count("\n") + (not text.endswith("\n")) for text in texts),
        train_characters=train,
        val_characters=val,
        sha256=join_digests([("train", digest) for digest in digests]),
        most_common=tuple(counts.most_common(12)),
        beginning=texts[0][:beginning],
    )


def download(
    name: str,
    *,
    progress: Progress | None = None,
    url: str | None = None,
    from_file: Path | None = None,
    timeout: float = TIMEOUT,
) -> Path:
    """Fetch a text, check it and put it among the user's texts; when it is there already, leave it.

    Args:
        name: One of `DOWNLOADS`.
        progress: Called as bytes arrive.
        url: Another place to fetch it from.
        from_file: A copy of it that is on this machine, taken instead.
        timeout: Seconds to wait for the next byte.

    Returns:
        The file.

    Raises:
        DataError: It is not a text to download, cannot be fetched, is cut short, or is not what it should be; then
            nothing is left of it.
    """
    if name not in DOWNLOADS:
        if name in {text.name for text in list_texts()}:
            raise DataError(f"{name} need not be downloaded", "it is here already")
        raise DataError(f"there is no text {name!r} to download", nearest_hint(name, DOWNLOADS))
    source, target = DOWNLOADS[name], _target(name)
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == source.sha256:
        return target
    folders.private(target.parent)
    with _partial_file(target) as partial:
        blocks = _read_blocks(from_file) if from_file else _fetch_blocks(url or source.url, timeout)
        digest, done = hashlib.sha256(), 0
        for block in blocks:
            partial.write(block)
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, source.size)
            if done > source.size:
                break  # not the text, however it goes on
        if digest.hexdigest() != source.sha256:
            what = "too short" if done < source.size else "not the text that it should be"
            hint = f"its sha256 should be {source.sha256}; nothing was kept"
            raise DataError(f"{from_file or 'what came from ' + (url or source.url)} is {what}", hint)
    return target


@contextlib.contextmanager
def _partial_file(target: Path) -> Iterator[BinaryIO]:
    """A file beside `target` that takes its place when the block ends well, and goes when it does not."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_blocks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as handle:
            while block := handle.read(_BLOCK):
                yield block
    except OSError as error:
        raise DataError(f"{file} cannot be read", error.strerror or str(error)) from error


def _fetch_blocks(url: str, timeout: float) -> Iterator[bytes]:
    """The body of a response, block by block, as long as the server said that it is."""
    # Only for a download: the screens that read what a text is called need not wait for these.
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url} is not a web address", "it should begin with https://")
    done, expected = 0, ""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": folders.APP})  # noqa: S310 (checked above)
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310 (checked above)
            expected = response.headers.get("Content-Length") or ""
            while block := response.read1(_BLOCK):  # what has come, so that progress moves on a slow line
                done += len(block)
                yield block
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{url} answered {error.code} {error.reason}", "--from-file takes a copy that you have"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if done:
            raise _broken(url, done, expected) from error
        raise DataError(
            f"{url} cannot be reached ({reason})", "check the network, or give a copy that you have with --from-file"
        ) from error
    if expected.isdigit() and done < int(expected):
        raise _broken(url, done, expected)


def _broken(url: str, done: int, expected: str) -> DataError:
    total = f" of {int(expected):,}" if expected.isdigit() else ""
    return DataError(f"the connection to {url} broke after {done:,}{total} bytes", "try again; nothing was kept")


def stdlib_files() -> list[Path]:
    """The sources of the running Python's standard library, sorted, without its tests and generated tables.

    Empty for a Python that has none on disk.
    """
    root = _stdlib_folder()
    files = []
    for where, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in _NOT_STDLIB | _TABLES and not name.startswith("config-")]
        files += [Path(where, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")]
    return sorted(files)


def _stdlib_folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _target(name: str) -> Path:
    return folders.user_texts() / f"{name}.txt"


def _bundled() -> Iterator[LibraryText]:
    for path in sorted(folders.bundled_texts().glob("*.txt")):
        yield LibraryText(path.stem, path, path.stat().st_size, "ready", "written for this project")


def _users() -> Iterator[LibraryText]:
    """What the user put into the folder of texts: files by their name without suffix, and folders."""
    root = folders.user_texts()
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        with contextlib.suppress(OSError):  # a link to where nobody may look
            if path.is_dir():
                yield LibraryText(path.name, path, _size(path.rglob("*")), "ready", "your own folder")
            elif path.suffix.lower() in FOLDER_SUFFIXES and path.is_file():
                yield LibraryText(path.stem, path, _size([path]), "ready", "your own")


def text_name(name_or_path: str | os.PathLike[str]) -> str:
    """What to call a text: a name, or that of its file or folder."""
    return (path := Path(name_or_path)).stem or path.absolute().stem  # "." is the folder's own name


def _size(paths: Iterable[Path]) -> int:
    """The bytes of the files among paths; what cannot be looked at, or has just gone, has none."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
