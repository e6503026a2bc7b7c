"""What `torch.save` wrote, read without running any of it: the file is a zip archive of numbers and of one pickle that
says what they are, and `plain_pickle.py` reads that. All that the file claims of itself is compared with its bytes
before memory is taken for it. It knows nothing of models.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from engine.errors import CheckpointError
from engine.formats.plain_pickle import MAX_BYTES, Call, Named, read_pickle

WHAT_ELSE = "save its weights as .safetensors where you trust it, and import that"
MAX_ENTRIES = 65_000
MAX_DIRECTORY = 1 << 24
"""Bytes of the list of what is in the archive."""

MAX_AXES = 16
MOST_SHARED = 4
"""Tensors that share numbers, as a tied head does, come to no more than so many times the numbers that are there."""

DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """A row of numbers in the file, by the name of its entry."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is in the file still: which numbers of which row.

    Attributes:
        shape: Of the tensor.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.storage.dtype


class TorchFile:
    """A file that `torch.save` wrote.

    Attributes:
        value: What was saved, with a `StoredTensor` in the place of each tensor.
    """

    def __init__(self, path: Path) -> None:
        """Read what the file says; its numbers wait.

        Raises:
            CheckpointError: It is damaged, of the older kind that is no archive, or holds what is no plain value.
        """
        self.path = path
        try:
            with path.open("rb") as file, zipfile.ZipFile(_whole_archive(path, file)) as archive:
                self._entries = _checked_entries(path, archive)
                pickles = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
                if len(pickles) != 1:
                    self._refuse("is a zip archive, but none that torch.save wrote")
                self._root = pickles[0].removesuffix("data.pkl")
                order = self._entries.get(f"{self._root}byteorder")
                if order is not None and (order.file_size > 8 or archive.read(order) != b"little"):
                    self._refuse("has its numbers in the byte order of other machines")
                if self._entries[pickles[0]].file_size > MAX_BYTES:
                    self._refuse("says too much of its weights")
                data = archive.read(pickles[0])
        except (OSError, zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, EOFError) as error:
            raise CheckpointError(f"{path} is not a whole file of torch.save ({error})", "copy it again") from None
        self.value = read_pickle(data, str(path), WHAT_ELSE, known=self._known(), elsewhere=self._row)

    def tensors(self, wanted: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """The numbers of some tensors, in memory of their own; those that share a row share it here too.

        Raises:
            CheckpointError: The file cannot be read, or what a tensor says of itself goes beyond its row.
        """
        rows = {each.storage.key: each.storage for each in wanted.values()}
        numbers = sum(math.prod(each.shape) for each in wanted.values())
        if numbers > MOST_SHARED * sum(row.count for row in rows.values()):
            self._refuse("claims to hold more than its own size")
        read: dict[str, Tensor] = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for key, row in rows.items():
                    data = bytearray(archive.read(f"{self._root}data/{key}"))
                    read[key] = torch.frombuffer(data, dtype=row.dtype) if data else torch.empty(0, dtype=row.dtype)
            return {
                name: torch.as_strided(read[each.storage.key], each.shape, each.strides, each.offset)
                for name, each in wanted.items()
            }
        except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError) as error:
            raise CheckpointError(f"{self.path} cannot be read ({error})", "copy it again") from None

    def _known(self) -> dict[str, Call]:
        """What its pickle may name: only what a dict of tensors is made of."""
        known: dict[str, Call] = {
            "collections OrderedDict": self._ordered_dict,
            "torch._utils _rebuild_tensor_v2": self._tensor,
            "torch._utils _rebuild_parameter": self._parameter,
        }
        return known | {f"torch {name}": self._refused_call for name in DTYPES}

    def _ordered_dict(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if arguments:
            self._refuse("fills a dict in a way that is not known")
        return {}

    def _parameter(self, arguments: tuple[Any, ...]) -> StoredTensor:
        if not arguments or not isinstance(arguments[0], StoredTensor):
            self._refuse("has a parameter that is no tensor")
        return arguments[0]

    def _refused_call(self, arguments: tuple[Any, ...]) -> NoReturn:
        self._refuse("makes numbers of nothing")

    def _row(self, arguments: tuple[Any, ...]) -> _Storage:
        """("storage", kind, key, device, count) of a row."""
        match arguments:
            case (("storage", Named() as kind, str() as key, str(), int() as count),):
                dtype = DTYPES.get(kind.name.removeprefix("torch "))
            case _:
                return self._refuse("keeps its numbers in a way that is not known")
        entry = self._entries.get(f"{self._root}data/{key}")
        if dtype is None or entry is None or count < 0 or entry.file_size != count * dtype.itemsize:
            self._refuse(f"has not the numbers that it names ({key[:20]!r})")
        return _Storage(key, dtype, count)

    def _tensor(self, arguments: tuple[Any, ...]) -> StoredTensor:
        """(row, offset, shape, strides, requires_grad, hooks) of a tensor."""
        match arguments[:4]:
            case (_Storage() as storage, int() as offset, tuple() as shape, tuple() as strides):
                pass
            case _:
                return self._refuse("has a tensor of a kind that is not known")
        if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
            self._refuse("has a tensor whose shape is none")
        if len(shape) > MAX_AXES:
            self._refuse("has a tensor of too many axes")
        numbers = math.prod(shape)
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if numbers > storage.count or (numbers and last >= storage.count):
            self._refuse("has a tensor that goes beyond its numbers")
        return StoredTensor(storage, offset, shape, strides)

    def _refuse(self, what: str) -> NoReturn:
        raise CheckpointError(f"{self.path} {what}", WHAT_ELSE)


def _whole_archive(path: Path, file: BinaryIO) -> BinaryIO:
    """The file, once it begins and ends as an archive of a size that can be, with nothing before or behind it.

    Raises:
        CheckpointError: It does not.
    """
    begins = file.read(4)
    size = file.seek(0, 2)
    if begins[:1] == b"\x80" or begins[:4] != b"PK\x03\x04":
        older = "is of the older kind that is one pickle" if begins[:1] == b"\x80" else "is not what torch.save writes"
        raise CheckpointError(f"{path} {older}", "open and save it anew with torch 1.6 or later, where you trust it")
    file.seek(max(0, size - 22))
    end = file.read()
    if end[:4] != b"PK\x05\x06" or end[20:] != b"\0\0":
        raise CheckpointError(f"{path} is cut short, or has something behind its end", "copy it again")
    entries, directory, first = struct.unpack("<HII", end[10:20])
    where = size - 22
    file.seek(max(0, where - 76))
    longer = file.read(60)
    if longer[:4] == b"PK\x06\x06" and longer[56:] == b"PK\x06\x07":  # the numbers count that are in a longer record
        entries, directory, first = struct.unpack("<QQQ", longer[32:56])
        where -= 76
    if entries > MAX_ENTRIES or directory > MAX_DIRECTORY or first + directory != where:
        raise CheckpointError(f"{path} is no archive that torch.save wrote", "copy it again")
    file.seek(0)
    return file


def _checked_entries(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """What is in the archive by name: each once, stored as it is, and all together no larger than the file.

    Raises:
        CheckpointError: It is not so; reading it could take any amount of memory.
    """
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    packed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1]
    sizes_differ = any(entry.file_size != entry.compress_size for entry in entries)
    if packed or sizes_differ:
        raise CheckpointError(f"{path} is compressed or encrypted, which torch.save never does", WHAT_ELSE)
    if len(names) != len(entries) or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(f"{path} claims to hold more than its own size", WHAT_ELSE)
    return {entry.filename: entry for entry in entries}
