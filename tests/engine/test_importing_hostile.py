"""Files that mean harm: nothing in them is run, no memory is taken that their own bytes do not fill, and each is
refused in one line.
"""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from foreign_models import ITOS, STOI, NanoGPT, V

from engine.errors import CheckpointError, MiniGPTError, TokenizerError
from engine.formats.plain_pickle import MAX_BYTES, read_pickle
from engine.formats.torch_file import TorchFile
from engine.importing.characters import read_characters
from engine.importing.imports import Wishes, import_model


class Runs:
    """What runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Built:
    def __init__(self):
        self.stoi = STOI


def cyclic():
    value = [1]
    value.append(value)
    return value


def laughs():
    """Ten lists of ten of the same, and so on: a few bytes, and as many values as one likes."""
    value = ["ha"] * 10
    for _ in range(20):
        value = [value] * 10
    return value


P2, P4 = pickle.PROTO + b"\x02", pickle.PROTO + b"\x04"
HOSTILE = {
    "GLOBAL": P2 + b"cos\nsystem\n.",
    "STACK_GLOBAL": P4 + b"\x8c\x02os\x8c\x06system\x93.",
    "INST": P2 + b"(ios\nsystem\n.",
    "OBJ": P2 + b"(}o.",
    "REDUCE": P2 + b"})R.",
    "NEWOBJ": P2 + b"})\x81.",
    "BUILD": P2 + b"}}b.",
    "EXT1": P2 + b"\x82\x01.",
    "EXT4": P2 + b"\x84\x01\x00\x00\x00.",
    "PERSID": P2 + b"Pos\n.",
    "BINPERSID": P2 + b"}Q.",
    "NEXT_BUFFER": P4 + b"\x97.",
    "INT": P2 + b"I7\n.",
}
BROKEN = {
    "nothing": b"\x80",
    "no end": P2 + b"}",
    "an empty pile": P2 + b".",
    "a pile of two": P2 + b"}}.",
    "no mark": P2 + b"u.",
    "a mark as a value": P2 + b"(.",
    "a mark in a pair": P2 + b"}(s.",
    "odd pairs": P2 + b"}(K\x01u.",
    "a list that is a dict": P2 + b"}(K\x01e.",
    "an unknown place": P2 + b"h\x07.",
    "an unknown instruction": P2 + b"\xff.",
    "a text of 2**63 bytes": P4 + b"\x8d" + struct.pack("<Q", 2**63 - 1) + b"a.",
    "a text of 4 GB": P2 + b"X\xff\xff\xff\xffab.",
    "bytes of 2**60": P4 + b"\x8e" + struct.pack("<Q", 2**60) + b"a.",
    "a number of 2 GB": P2 + b"\x8b\xff\xff\xff\x7f\x01.",
    "a huge number": P2 + b"\x8a\xff" + b"\x7f" * 255 + b".",
    "half a letter": P2 + b"X\x01\x00\x00\x00\xff.",
    "a list as a key": P2 + b"}]K\x01s.",
    "a tuple as a key": P2 + b"}K\x01\x85K\x01s.",
    "a cycle": pickle.dumps(cyclic()),
    "a deep list": P2 + b"]" * 5000 + b"a" * 4999 + b".",
    "many of the same": pickle.dumps(laughs()),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_an_instruction_that_could_run_code_is_refused_by_its_name(data, request):
    with pytest.raises(CheckpointError, match="could run code") as caught:
        read_pickle(data, "meta.pkl", "give JSON")
    assert request.node.callspec.id in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_pickle_is_one_line_and_takes_no_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            read_pickle(data, "meta.pkl", "give JSON")
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "give JSON"


def test_a_pickle_out_of_all_bounds_is_not_looked_at():
    with pytest.raises(CheckpointError, match="at most"):
        read_pickle(b"\x80\x02" + b"0" * MAX_BYTES, "meta.pkl", "give JSON")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back_as_they_were(protocol):
    value = {
        "a": [1, -2, 2**40, 1.5, True, None, "é🙂", b"\x00\xff", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        7: {"itos": ITOS, "stoi": STOI},
    }
    if protocol == 2:  # which has no instruction for bytes
        value["a"].remove(b"\x00\xff")
    value["again"] = value["a"]
    assert read_pickle(pickle.dumps(value, protocol), "meta.pkl", "") == value


@pytest.mark.parametrize("harm", [Runs, lambda _: Built(), lambda _: np.float64(1), lambda _: {1, 2}], ids=range(4))
def test_a_table_with_more_than_plain_values_is_refused_and_nothing_of_it_is_run(tmp_path, harm):
    there = tmp_path / "was run"
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"stoi": STOI, "x": harm(there)}))
    with pytest.raises(CheckpointError, match="plain data"):
        read_characters(tmp_path)
    assert not there.exists()


@pytest.mark.parametrize("meta", [{}, {"itos": 7}, {"stoi": {"a": 1.0}}, ["ab"], 7, {"itos": {0: "a", 5: "b"}}])
def test_a_pickle_that_is_no_table_is_refused(tmp_path, meta):
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    with pytest.raises(TokenizerError):
        read_characters(tmp_path)


def archive(path, pickled, data=b"\0" * 40, compression=zipfile.ZIP_STORED, order=b"little", more=()):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in (("data.pkl", pickled), ("byteorder", order), ("data/0", data), *more):
            file.writestr(f"a/{name}", content)
    return path


class Tensor:
    """A tensor as a file describes it, true or not."""

    def __init__(self, count=10, offset=0, shape=(10,), strides=(1,), kind=torch.FloatStorage, key="0"):
        self.row, self.place, self.kind = ("storage", kind, key, "cpu", count), (offset, shape, strides), kind

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (self, *self.place, False, collections.OrderedDict())


class Describing(pickle._Pickler):
    def __init__(self, file):
        super().__init__(file, 2)
        self.begun = set()

    def persistent_id(self, value):
        if isinstance(value, Tensor) and id(value) in self.begun:
            return value.row
        self.begun.add(id(value))
        return None


def described(value):
    file = io.BytesIO()
    Describing(file).dump(value)
    return file.getvalue()


def test_what_a_file_says_truly_is_read(tmp_path):
    data = torch.arange(10.0).numpy().tobytes()
    tensor = Tensor(offset=2, shape=(2, 3), strides=(1, 2))
    file = TorchFile(archive(tmp_path / "x.pt", described({"w": tensor}), data))
    assert file.tensors(file.value)["w"].tolist() == [[2.0, 4.0, 6.0], [3.0, 5.0, 7.0]]


@pytest.mark.parametrize(
    "tensor",
    [
        {"count": 10**9},
        {"count": 11},
        {"count": -10},
        {"shape": (10**9,)},
        {"shape": (10**14,)},
        {"shape": (10**12,), "strides": (0,)},
        {"shape": (-5,)},
        {"shape": (11,)},
        {"offset": 1},
        {"offset": -1},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"shape": (10, 1)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"shape": ("10",)},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"kind": torch.DoubleStorage},
        {"kind": torch.ComplexFloatStorage},
    ],
    ids=str,
)
def test_a_tensor_that_claims_what_is_not_there_is_refused(tmp_path, tensor):
    with pytest.raises(CheckpointError) as caught:
        TorchFile(archive(tmp_path / "x.pt", described({"w": Tensor(**tensor)})))
    assert "\n" not in str(caught.value)


def test_many_tensors_of_the_same_numbers_are_refused(tmp_path):
    file = TorchFile(archive(tmp_path / "x.pt", described({f"w{n}": Tensor() for n in range(50)})))
    with pytest.raises(CheckpointError, match="more than its own size"):
        file.tensors(file.value)


PLAIN = described({"w": Tensor()})


def bomb(path):
    """40 MB of zeros in a few kilobytes."""
    return archive(path, described({"w": Tensor(count=10**7)}), b"\0" * 4 * 10**7, zipfile.ZIP_DEFLATED)


def twice(path):
    with pytest.warns(UserWarning, match="Duplicate"):
        return archive(path, PLAIN, more=[("data/0", b"\0" * 40)])


def overlapping(path):
    """Its list names the same bytes many times."""
    archive(path, PLAIN, b"\0" * 4000, more=[(f"data/{n}", b"") for n in range(1, 50)])
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    first = None
    while data[at : at + 4] == b"PK\x01\x02":
        name, extra, comment = struct.unpack("<HHH", data[at + 28 : at + 34])
        if data[at + 46 : at + 46 + name].startswith(b"a/data/"):
            first = first or (bytes(data[at + 16 : at + 28]), bytes(data[at + 42 : at + 46]))
            data[at + 16 : at + 28], data[at + 42 : at + 46] = first
        at += 46 + name + extra + comment
    path.write_bytes(data)
    return path


def edited(**changes):
    """An archive whose bytes were changed behind its back."""

    def write(path):
        data = archive(path, PLAIN).read_bytes()
        path.write_bytes(changes["change"](data))
        return path

    return write


ARCHIVES = {
    "a zip bomb": (bomb, "compressed"),
    "an entry twice": (twice, "more than its own size"),
    "entries over each other": (overlapping, "more than its own size"),
    "cut short": (edited(change=lambda data: data[:-30]), "cut short"),
    "something behind": (edited(change=lambda data: data + b"\0"), "cut short"),
    "a list elsewhere": (edited(change=lambda data: data[:-6] + b"\x10\0\0\0\0\0"), "no archive"),
    "a list of 4 GB": (edited(change=lambda data: data[:-10] + b"\xff" * 8 + b"\0\0"), "no archive"),
    "a damaged list": (edited(change=lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03", 1)), "not a whole file"),
    "damaged numbers": (edited(change=lambda data: data.replace(b"a/data.pkl\x80", b"a/data.pkl\x81", 1)), "CRC"),
    "the older kind": (lambda path: torch.save({}, path, _use_new_zipfile_serialization=False) or path, "older kind"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({})) and path, "older kind"),
    "some text": (lambda path: path.write_bytes(b"hello") and path, "not what torch.save writes"),
    "nothing": (lambda path: path.write_bytes(b"") or path, "not what torch.save writes"),
    "another byte order": (lambda path: archive(path, PLAIN, order=b"big"), "byte order"),
    "code": (lambda path: archive(path, pickle.dumps(Runs(path.parent / "was run"), 2)), "could run code"),
    "code in a dict": (
        lambda path: archive(path, pickle.dumps({"w": Runs(path.parent / "was run")}, 4)),
        "could run code",
    ),
    "a whole model": (lambda path: torch.save(torch.nn.Linear(2, 2), path) or path, "could run code"),
    "no pickle": (lambda path: archive(path, b"hello"), "no whole pickle"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_file_of_weights_that_means_harm_is_refused_in_one_line(tmp_path, name):
    write, says = ARCHIVES[name]
    path = write(tmp_path / "x.pt")
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=says) as caught:
            TorchFile(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "was run").exists()


def test_a_zip_that_torch_did_not_write_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(CheckpointError, match="none that torch"):
        TorchFile(tmp_path / "x.pt")


def test_a_changed_byte_anywhere_is_an_error_or_the_same_kind_of_file(tmp_path, monkeypatch):
    """Never a crash, and never a line that says it is a mistake of ours."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "own home"))
    path = NanoGPT(C=8, H=2, L=1, T=4).save(tmp_path / "out")
    data = path.read_bytes()
    places = list(range(0, 1200, 17)) + list(range(len(data) - 1200, len(data), 17))
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        with contextlib.suppress(MiniGPTError):
            import_model(path, Wishes(name="changed", replace=True))


def test_a_models_head_may_not_ask_for_more_than_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "own home"))
    path = NanoGPT().save(tmp_path / "out", meta=False)
    (path.parent / "meta.pkl").write_bytes(pickle.dumps({"stoi": {chr(0x4E00 + n): n for n in range(V + 1)}}))
    with pytest.raises(TokenizerError, match=f"{V + 1} tokens and the model {V}"):
        import_model(path, Wishes())
