"""`eval` knows which part of which text: the model's own splits wherever they came from, or another text."""

from __future__ import annotations

import json

import pytest

from engine import catalog, folders
from engine.errors import DataError
from engine.text.library import open_corpus
from engine.text.provenance import read_text_record, select, text_record, without_folders

QUICK = tuple(
    part
    for word in ("n_layer=1", "n_embd=16", "n_head=2", "block_size=16", "batch_size=2", "steps=4", "eval_interval=2",
                 "sample_tokens=2", "precision=fp32")
    for part in ("--set", word)
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("trained_here")

TEXTS = {
    "train": "The fox went to the river, and the river said: who goes there?\n" * 20,
    "val": "The river went to the fox.\n" * 9,
    "test": "Who said: the fox?\n" * 7,
}


@pytest.fixture
def texts(tmp_path):
    paths = {}
    for name, text in TEXTS.items():
        paths[name] = tmp_path / f"{name}.txt"
        paths[name].write_text(text)
    return paths


@pytest.fixture
def evaluate(cli):
    """Evaluate a model: what is printed as JSON, and what is said."""

    def command(*words):
        result = cli("eval", *words, "--json")
        assert result.status == 0, result.err
        return json.loads(result.out), result.err

    return command


def test_files_given_for_each_split_are_found_again(cli, own_home, texts, evaluate):
    trained = cli("train", texts["train"], "--val", texts["val"], "--test", texts["test"], "--name", "demo", *QUICK)
    assert trained.status == 0
    losses = catalog.read_record(catalog.find_checkpoint("demo")).losses
    assert f"validation loss {losses['val']:.4f}, test loss {losses['test']:.4f}" in trained.err

    for split in ("val", "test"):
        tokens = len(TEXTS[split]) - 1
        for words in (("--split", split), ("--data", texts["train"], "--split", split), ("--data", texts[split])):
            measured, _ = evaluate("--model", "demo", *words)
            assert (measured["split"], measured["tokens"]) == (split, tokens)
            assert measured["loss"] == pytest.approx(losses[split], abs=1e-6)
    for words in ((), ("--data", texts["train"])):
        measured, said = evaluate("--model", "demo", *words)
        assert (measured["split"], measured["tokens"]) == ("val", len(TEXTS["val"]) - 1)
        assert "the validation split is used: the model was trained on this text" in said
    for words in (("--split", "train"), ("--data", texts["test"], "--split", "train")):
        measured, _ = evaluate("--model", "demo", *words)
        assert (measured["split"], measured["tokens"]) == ("train", len(TEXTS["train"]) - 1)

    copy = own_home / "copy.txt"  # a text is known by what is in it
    texts["test"].rename(copy)
    assert evaluate("--model", "demo", "--data", copy)[0]["split"] == "test"
    gone = cli("eval", "--model", "demo", "--split", "test")
    assert (gone.status, gone.is_one_error_line) == (1, True)
    assert "the test text that the model was trained with is not here" in gone.err
    texts["val"].write_text(TEXTS["val"] + "Who?")
    changed = cli("eval", "--model", "demo")
    assert (changed.status, changed.is_one_error_line) == (1, True)
    assert "is no longer what it was" in changed.err
    assert evaluate("--model", "demo", "--data", texts["val"])[0]["split"] == "all"


def test_an_exported_model_names_its_texts_without_their_folders(cli, own_home, texts, tmp_path, evaluate, monkeypatch):
    assert cli("train", texts["train"], "--val", texts["val"], "--name", "demo", *QUICK).status == 0
    assert cli("models", "export", "demo", "--to", "hf", tmp_path / "to go").status == 0
    assert catalog.read_record(tmp_path / "to go").data["splits"]["val"]["sources"] == ["val.txt"]
    assert str(tmp_path) not in (tmp_path / "to go" / catalog.RECORD).read_text()
    assert evaluate("--model", tmp_path / "to go", "--data", texts["train"], "--split", "train")[0]["split"] == "train"
    monkeypatch.chdir(tmp_path)
    assert evaluate("--model", "to go")[0]["tokens"] == len(TEXTS["val"]) - 1


def test_an_exported_model_finds_a_text_of_the_library_by_its_files_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = without_folders(text_record(open_corpus([folders.bundled_texts() / "fables.txt"])))
    assert list(data["splits"]["train"]["sources"]) == ["fables.txt"]
    assert select(read_text_record(data), None, "val").documents
    data["splits"]["train"]["sha256"] = "0" * 64
    with pytest.raises(DataError, match="no longer what it was"):
        select(read_text_record(data), None, "val")


def test_a_test_file_alone_leaves_validation_to_the_last_tenth(cli, own_home, texts, evaluate):
    assert cli("train", texts["train"], "--test", texts["test"], "--name", "demo", *QUICK).status == 0
    cut = int(len(TEXTS["train"]) * 0.9)
    sizes = {"train": cut - 1, "val": len(TEXTS["train"]) - cut - 1, "test": len(TEXTS["test"]) - 1}
    for split, tokens in sizes.items():
        assert evaluate("--model", "demo", "--data", texts["train"], "--split", split)[0]["tokens"] == tokens
    assert evaluate("--model", "demo")[0]["tokens"] == sizes["val"]


def test_several_texts_and_a_column_are_found_again(cli, own_home, tmp_path, evaluate, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        rows = [{"note": "12345678 " * 9, "said": f"the {name} goes where the water goes, and slower {row}"}
                for row in range(12)]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("train", "a.jsonl", "b.jsonl", "--column", "said", "--name", "demo", *QUICK).status == 0
    record = catalog.read_record(catalog.find_checkpoint("demo"))
    monkeypatch.chdir("/")
    measured, _ = evaluate("--model", "demo")
    assert measured["tokens"] == record.data["val_tokens"] - 1
    assert measured["loss"] == pytest.approx(record.losses["val"], abs=1e-6)


def test_another_text_is_all_used_or_cut_as_any_text_is(cli, tiny_model, texts, evaluate):
    measured, said = evaluate("--model", tiny_model, "--data", texts["val"])
    assert (measured["split"], measured["tokens"]) == ("all", len(TEXTS["val"]) - 1)
    assert "all of the text is used" in said
    cut = int(len(TEXTS["val"]) * 0.9)
    assert evaluate("--model", tiny_model, "--data", texts["val"], "--split", "train")[0]["tokens"] == cut - 1
    none = cli("eval", "--model", tiny_model, "--data", texts["val"], "--split", "test")
    assert (none.status, none.is_one_error_line) == (1, True)
    assert "has no test split" in none.err


def test_a_model_from_before_splits_were_recorded_is_read_as_it_was(cli, own_home, texts, evaluate):
    assert cli("train", texts["train"], "--name", "demo", *QUICK).status == 0
    file = catalog.find_checkpoint("demo") / catalog.RECORD
    record = json.loads(file.read_text())
    del record["data"]["splits"]
    file.write_text(json.dumps(record))
    assert evaluate("--model", "demo", "--data", texts["train"])[0]["split"] == "val"
    record["data"] = {"name": ["no", "name"]}
    file.write_text(json.dumps(record))
    wrong = cli("eval", "--model", "demo", "--data", texts["train"])
    assert (wrong.status, wrong.is_one_error_line) == (1, True)
