"""The engine's real process, spoken to line by line: what any client of it is promised."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from endless import make_endless
from worker_process import PATIENCE, ROOT, Worker, new_id, text_of, tokens_of

from engine.checkpoints import LoadedModel, load_model
from engine.config import ENDLESS, SamplingParams
from engine.evaluation import score
from engine.inference.generator import Generation
from engine.worker.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    Done,
    Error,
    Generate,
    Hello,
    Load,
    Loaded,
    ParamsAt,
    ParamsChanged,
    Ready,
    Score,
    Scored,
    SetParams,
    Shutdown,
    Started,
    Tokens,
    Written,
    decode_event,
    encode,
)


@pytest.fixture(scope="module")
def endless(home: Path) -> Path:
    """A model that writes until it is stopped."""
    return make_endless()


@pytest.fixture(scope="module")
def worker(endless: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """One worker for all tests that leave it as they found it; it has the model loaded."""
    worker = Worker(folder=tmp_path_factory.mktemp("worker"))
    worker.send(Load(id=1, model="endless"))  # at once: before Ready, and before hello
    worker.greetings = [worker.next(), worker.next(), worker.next()]
    yield worker
    worker.end()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator:
    """Starts workers that a test may end."""
    workers = []

    def start(*command: str, **environment: str) -> Worker:
        workers.append(Worker(*command, folder=tmp_path, **environment))
        return workers[-1]

    yield start
    for worker in workers:
        worker.end()


@pytest.fixture(scope="module")
def writer(endless: Path) -> Iterator[LoadedModel]:
    """The endless model in this process, with the worker's number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model("endless", "cpu", "fp32")
    torch.set_num_threads(threads)


def write_here(model: LoadedModel, prompt: str, params: SamplingParams) -> tuple[Generation, str]:
    generation = Generation(model, model.tokenizer.encode(prompt), params)
    text = "".join(token.text for token in generation)
    return generation, text + generation.tail


# Start.


def test_a_request_sent_before_the_engine_is_ready_is_answered(worker: Worker) -> None:
    hello, ready, loaded = worker.greetings
    assert isinstance(hello, Hello)
    assert hello.protocol == PROTOCOL_VERSION
    assert hello.pid == worker.process.pid
    assert isinstance(ready, Ready)
    assert ready.devices[-1] == "cpu"
    assert ready.threads >= 1
    assert isinstance(loaded, Loaded)
    assert loaded.id == 1


def test_hello_does_not_wait_for_torch_and_a_broken_torch_is_told_of(spawn, tmp_path: Path) -> None:
    fake = tmp_path / "first" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("import time; time.sleep(0.3); raise ImportError('libcuda is broken')")
    worker = spawn(first_on_path=str(fake.parent))
    assert isinstance(worker.next(), Hello)
    error = worker.next()
    assert isinstance(error, Error)
    assert error.id is None
    assert error.kind == "WorkerError"
    assert "libcuda is broken" in error.message
    assert worker.process.wait(PATIENCE) == 1


def test_a_file_beside_the_user_does_not_stand_in_for_a_module(spawn, tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('taken over')")
    assert isinstance(spawn().next(), Hello)


# Models.


def test_loading_tells_what_the_model_is(worker: Worker, writer: LoadedModel) -> None:
    id = new_id()
    worker.send(Load(id=id, model="endless"))
    model = worker.next(id).model
    assert model.name == "endless"
    assert model.parameters == writer.parameters
    assert model.block_size == writer.config.block_size
    assert (model.device, model.precision) == (writer.device, writer.precision)
    record = writer.record
    assert (model.val_loss, model.step, model.trained_on) == (record.losses["val"], record.step, record.data["name"])
    assert model.sha256 == writer.sha256


def test_a_model_that_changed_on_disk_is_loaded_anew(worker: Worker) -> None:
    hashes = []
    for seed in (0, 1):
        path = make_endless("changing", seed)
        id = new_id()
        worker.send(Load(id=id, model="changing"))
        hashes.append(worker.next(id).model.sha256)
    shutil.rmtree(path)
    assert hashes[0] != hashes[1]


# Writing.


def test_a_text_is_the_one_that_the_engine_writes_anywhere(worker: Worker, writer: LoadedModel) -> None:
    params = SamplingParams(max_new_tokens=100, seed=7, stop=("zqx",))
    id = new_id()
    worker.send(Generate(id=id, model="endless", prompt="The fox", params=params, alternatives=3))
    started, *middle, done = worker.until_done(id)
    generation, text = write_here(writer, "The fox", params)
    assert isinstance(started, Started)
    assert (started.prompt, started.seed) == ("The fox", 7)
    assert started.prompt_tokens == generation.prompt_tokens
    assert text_of([*middle, done]) == text
    tokens = tokens_of(middle)
    assert [token.position for token in tokens] == list(range(7, 107))
    assert all(len(token.top) == 3 for token in tokens)
    assert (done.finish_reason, done.prompt_tokens, done.new_tokens, done.seed) == ("length", 7, 100, 7)
    assert done.tokens_per_second > 0
    assert done.time_to_first_token > 0
    assert middle[-1].context == generation.context


def test_a_text_that_is_told_plainly_is_the_same_one_also_where_its_settings_change(
    worker: Worker, writer: LoadedModel
) -> None:
    params = SamplingParams(max_new_tokens=100, seed=7)
    generation, text = write_here(writer, "The fox", params)
    stop = text[60:63]
    before = text[: text.index(stop)]
    for asked, written, reason in ((params, text, "length"), (params.replace(stop=(stop,)), before, "stop")):
        id = new_id()
        worker.send(Generate(id=id, model="endless", prompt="The fox", params=asked, plain=True))
        started, *middle, done = worker.until_done(id)
        assert started.prompt_tokens == generation.prompt_tokens
        assert {type(event) for event in middle} == {Written}
        assert all(event.text for event in middle)
        assert text_of([*middle, done]) == written
        assert (done.finish_reason, done.prompt_tokens) == (reason, 7)
        assert done.new_tokens == (100 if reason == "length" else len(before) + len(stop))

    changes = (ParamsAt(27, params.replace(temperature=0.0)), ParamsAt(47, params.replace(top_k=1)))
    texts = []
    for plain in (False, True):
        id = new_id()
        request = Generate(id=id, model="endless", prompt="The fox", params=params, changes=changes, plain=plain)
        worker.send(request)
        _, *middle, done = worker.until_done(id)
        texts.append(text_of([*middle, done]))
        places = [place for place, event in enumerate(middle) if isinstance(event, ParamsChanged)]
        assert [len(text_of(middle[:place])) for place in places] == [20, 40]
    assert texts[0] == texts[1] != text


def test_a_seed_that_nobody_chose_is_told_and_gives_the_same_text_again(worker: Worker) -> None:
    id, again = new_id(), new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=40)))
    first = worker.until_done(id)
    worker.send(Generate(id=again, model="endless", params=SamplingParams(max_new_tokens=40, seed=first[0].seed)))
    assert text_of(worker.until_done(again)) == text_of(first)


def test_a_text_goes_on_from_its_tokens_as_if_it_had_never_stopped(worker: Worker) -> None:
    whole, half, rest = new_id(), new_id(), new_id()
    worker.send(Generate(id=whole, model="endless", params=SamplingParams(max_new_tokens=90, seed=3)))
    worker.send(Generate(id=half, model="endless", params=SamplingParams(max_new_tokens=45, seed=3)))
    first = worker.until_done(half)
    so_far = (*first[0].prompt_tokens, *(token.token for token in tokens_of(first)))
    worker.send(
        Generate(id=rest, model="endless", prompt_tokens=so_far, params=SamplingParams(max_new_tokens=45, seed=3))
    )
    second = worker.until_done(rest)
    assert second[0].prompt == text_of(first)
    assert text_of(first) + text_of(second) == text_of(worker.until_done(whole))


def test_characters_that_the_model_never_saw_are_named(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", prompt="a™n™é", params=SamplingParams(max_new_tokens=1)))
    started = worker.until_done(id)[0]
    assert (started.prompt, started.left_out) == ("an", "™é")


def test_the_name_of_a_special_token_is_one_in_a_rendered_template_alone(worker: Worker, writer: LoadedModel) -> None:
    starts = []
    for template in (False, True):
        id = new_id()
        params = SamplingParams(max_new_tokens=1)
        worker.send(Generate(id=id, model="endless", prompt="fox<|endoftext|>goes", params=params, template=template))
        starts.append(worker.until_done(id)[0])
    typed, rendered = starts
    eot, encode = writer.tokenizer.eot_id, writer.tokenizer.encode
    assert rendered.prompt_tokens == (*encode("fox"), eot, *encode("goes"))
    assert rendered.left_out == ""
    assert eot not in typed.prompt_tokens
    assert typed.left_out == "<|>"


def test_new_settings_act_from_the_place_that_is_told(worker: Worker, writer: LoadedModel) -> None:
    before = SamplingParams(max_new_tokens=ENDLESS, seed=11, temperature=1.5)
    after = SamplingParams(max_new_tokens=400, temperature=0.0, repetition_penalty=1.2, seed=999)
    id = new_id()
    worker.send(Generate(id=id, model="endless", prompt="river", params=before))
    events = [worker.next(id), worker.next(id)]
    worker.send(SetParams(id=id, params=after))
    events += worker.until_done(id)
    (changed,) = (event for event in events if isinstance(event, ParamsChanged))
    place = events.index(changed)
    assert changed.params == after.replace(seed=11)  # the noise stays the same
    assert all(token.position < changed.position for token in tokens_of(events[:place]))
    assert tokens_of(events[place:])[0].position == changed.position

    replay = Generation(writer, writer.tokenizer.encode("river"), before)
    while replay.position < changed.position:
        next(replay)
    replay.set_params(after)
    list(replay)
    assert [token.token for token in tokens_of(events)] == replay.tokens[5:]


def test_cancelling_keeps_what_was_written(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=ENDLESS, seed=1)))
    events = [worker.next(id), worker.next(id)]
    worker.send(Cancel(id=id))
    worker.send(Cancel(id=id))  # twice is no different, and neither is a change that comes too late
    worker.send(SetParams(id=id, params=SamplingParams()))
    events += worker.until_done(id)
    assert events[-1].finish_reason == "cancelled"
    assert events[-1].new_tokens == len(tokens_of(events)) >= 1
    later = new_id()
    worker.send(Load(id=later, model="endless"))
    worker.next(later)
    assert not [event for event in worker.aside if getattr(event, "id", None) == id]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_several_texts_are_written_side_by_side_and_each_is_its_own(
    worker: Worker, writer: LoadedModel, precision: str
) -> None:
    model = writer if precision == "fp32" else load_model("endless", "cpu", precision)
    if not model.decoder.rows_alike:
        pytest.skip("this build of torch has no packed products")
    wanted = [  # each with its own prompt, settings and end
        ("The", SamplingParams(max_new_tokens=ENDLESS, seed=0)),
        ("river, who goes there? " * 6, SamplingParams(max_new_tokens=ENDLESS, seed=1, temperature=1.6, top_k=7)),
        ("fox", SamplingParams(max_new_tokens=ENDLESS, seed=2, temperature=0.0, repetition_penalty=1.3)),
    ]
    ids = [new_id() for _ in wanted]
    for id, (prompt, params) in zip(ids, wanted, strict=True):
        worker.send(Generate(id=id, model="endless", prompt=prompt, params=params, device="cpu", precision=precision))
    begun = [[worker.next(id), worker.next(id)] for id in ids]  # all three, before any has ended
    late = new_id()  # and one that joins them, and ends before them
    stopping = SamplingParams(max_new_tokens=40, seed=9, stop=("e",))
    worker.send(Generate(id=late, model="endless", params=stopping, device="cpu", precision=precision))
    joined = worker.until_done(late)
    for id, (_, params) in zip(ids, wanted, strict=True):
        worker.send(SetParams(id=id, params=params.replace(max_new_tokens=300)))
    texts = [(events + worker.until_done(id), *asked) for id, events, asked in zip(ids, begun, wanted, strict=True)]
    for events, prompt, params in [*texts, (joined, "", stopping)]:
        written = [token.token for token in tokens_of(events)]
        limit = 40 if params is stopping else len(written)
        generation, text = write_here(model, prompt, params.replace(max_new_tokens=limit))
        assert written == generation.tokens[len(generation.prompt_tokens) :]
        assert params is stopping or len(written) >= 300
        assert text_of(events) == text


def test_a_slow_pace_never_makes_a_command_wait(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=20), pace=0.001))
    events = [worker.next(id), worker.next(id)]
    assert (
        len(tokens_of(events)) == 1
    )  # the first token does not wait; the second would come after a quarter of an hour
    worker.send(SetParams(id=id, pace=0.0))
    events += worker.until_done(id)
    assert len(tokens_of(events)) == 20
    assert not [event for event in events if isinstance(event, ParamsChanged)]


def test_a_text_at_a_slow_pace_can_be_cancelled(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", pace=0.001))
    assert isinstance(worker.next(id), Started)
    worker.next(id)
    worker.send(Cancel(id=id))
    assert worker.next(id).finish_reason == "cancelled"


def test_the_end_of_a_text_does_not_wait_for_its_pace(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=1), pace=0.001))
    assert worker.until_done(id)[-1].new_tokens == 1


# Scoring.


def test_a_score_is_the_evaluations(worker: Worker, writer: LoadedModel) -> None:
    id = new_id()
    worker.send(Score(id=id, model="endless", text="The fox™ went to the river."))
    scored, expected = worker.next(id), score(writer, "The fox™ went to the river.")
    assert isinstance(scored, Scored)
    assert (scored.loss, scored.perplexity, scored.bits_per_byte) == pytest.approx(
        (expected.loss, expected.perplexity, expected.bits_per_byte)
    )
    assert [token.text for token in scored.tokens] == list("he fox went to the river.")
    assert scored.left_out == "™"


def test_a_text_whose_score_would_fill_more_than_a_message_is_refused_at_once(worker: Worker) -> None:
    id = new_id()
    worker.send(Score(id=id, model="endless", text="river " * 100_000))
    error = worker.next(id)
    assert error.kind == "InvalidSettingError"
    assert "eval" in error.hint


# What goes wrong.


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (b'{"type":"load","id":%d,"model":"no-such-model"}', "ModelNotFoundError", "no-such-model"),
        (b'{"type":"load","id":%d,"model":7}', "InvalidSettingError", "not as it must be"),
        (b'{"type":"load","id":%d,"device":"abacus"}', "InvalidSettingError", "not as it must be"),
        (b'{"type":"dance","id":%d}', "InvalidSettingError", "not as it must be"),
        (b'{"type":"generate","id":%d,"params":{"temperature":-1}}', "InvalidSettingError", "temperature is -1"),
        (b'{"type":"generate","id":%d,"params":{"tempo":1}}', "InvalidSettingError", "not as it must be"),
        (b'{"type":"generate","id":%d,"pace":-2}', "InvalidSettingError", "pace is -2"),
        (b'{"type":"generate","id":%d,"pace":1e300}', "InvalidSettingError", "pace is 1e+300"),
        (b'{"type":"generate","id":%d,"alternatives":-1}', "InvalidSettingError", "alternatives is -1"),
        (b'{"type":"generate","id":%d,"model":"endless","prompt_tokens":[4000]}', "DataError", "vocabulary"),
        (b'{"type":"score","id":%d,"model":"endless","text":"a"}', "DataError", "too short"),
        (b'{"type":"load","id":%d,"model":"\xff"}', "WorkerError", "not JSON"),
        (b'{"type":"load","id":%d,', "WorkerError", "not JSON"),
    ],
)
def test_a_request_that_cannot_be_served_is_answered_with_why(
    worker: Worker, line: bytes, kind: str, says: str
) -> None:
    id = new_id()
    worker.send(line % id + b"\n")
    error = worker.next(id)
    assert isinstance(error, Error)
    assert error.kind == kind
    assert says in error.message
    assert "\n" not in error.message + error.hint


def test_a_line_that_is_no_request_at_all_is_an_error_that_belongs_to_none(worker: Worker) -> None:
    worker.send(b"hello?\n\n   \n[1, 2]\n")
    errors = [worker.next(), worker.next()]
    assert [error.id for error in errors] == [None, None]
    assert [error.kind for error in errors] == ["WorkerError", "InvalidSettingError"]


def test_a_line_that_is_too_long_is_refused_by_its_id_and_the_next_one_is_served(worker: Worker) -> None:
    long, next_one = new_id(), new_id()
    worker.send(b'{"type":"score","id":%d,"text":"' % long + b"x" * MAX_MESSAGE_BYTES + b'"}\n')
    worker.send(Load(id=next_one, model="endless"))
    error = worker.next(long)
    assert (error.kind, error.message) == ("WorkerError", "a request is longer than 16 MiB")
    assert isinstance(worker.next(next_one), Loaded)


def test_a_second_text_under_an_id_in_use_is_refused_and_the_first_goes_on(worker: Worker) -> None:
    id = new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=ENDLESS)))
    worker.send(Generate(id=id, model="endless"))
    while not isinstance(event := worker.next(), Error):
        worker.aside.append(event) if not isinstance(event, Tokens | Started) else None
    assert event.id is None
    worker.send(Cancel(id=id))
    assert worker.until_done(id)[-1].finish_reason == "cancelled"


def test_an_unreadable_change_of_settings_ends_its_text_with_an_error_and_nothing_after(worker: Worker) -> None:
    id, later = new_id(), new_id()
    worker.send(Generate(id=id, model="endless", params=SamplingParams(max_new_tokens=ENDLESS)))
    worker.next(id)
    worker.send(b'{"type":"set_params","id":%d,"params":{"top_p":7}}\n' % id)
    assert worker.until_done(id)[-1].kind == "InvalidSettingError"
    worker.send(Load(id=later, model="endless"))
    worker.next(later)
    assert not [event for event in worker.aside if getattr(event, "id", None) == id]


WRAPPED = """
    import os, signal, subprocess, sys
    from engine.worker import __main__ as worker
    from engine.worker.connection import Connection

    send = Connection.send

    def noisy(self, event):
        print("noise from print")
        os.write(1, b"noise from below\\n")
        subprocess.run(["echo", "noise from a child"], check=True)
        assert os.read(0, 100) == b"", "stdin is the protocol's alone"
        if type(event).__name__ == "Ready":
            import torch
            from engine.inference.slots import Slots as service_slots
            from engine.worker import service

            def failing(model, text, *more):
                raise {"memory": torch.OutOfMemoryError("CUDA out of memory")}.get(text, ValueError("first\\nsecond"))

            service.score = failing
            grow = service_slots._grow

            def no_room(self):
                if len(self):
                    raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")
                return grow(self)

            service_slots._grow = no_room
        send(self, event)

    Connection.send = noisy
    sys.exit(worker.main())
"""


def test_what_the_process_prints_never_reaches_the_protocol_and_a_fault_in_one_request_does_not_end_it(
    spawn, tmp_path: Path, endless: Path
) -> None:
    script = tmp_path / "wrapped.py"
    script.write_text(textwrap.dedent(WRAPPED))
    worker = spawn(sys.executable, str(script))
    worker.send(Score(id=1, model="endless", text="anything"))
    worker.send(Score(id=2, model="endless", text="memory"))
    worker.send(Load(id=3, model="endless"))
    events = [worker.next() for _ in range(5)]  # each line decodes
    assert [type(event) for event in events] == [Hello, Ready, Error, Error, Loaded]
    internal, memory = events[2:4]
    assert (internal.kind, internal.message) == ("InternalError", "the engine failed: ValueError: first")
    assert (memory.kind, memory.message) == ("DeviceError", "the device ran out of memory")
    worker.send(Generate(id=4, model="endless", prompt="la", params=SamplingParams(seed=1, max_new_tokens=20_000)))
    worker.send(Generate(id=5, model="endless", prompt="la", params=SamplingParams(seed=1, max_new_tokens=5)))
    refused = next(event for event in iter(worker.next, None) if isinstance(event, Error))
    assert (refused.id, refused.kind) == (5, "DeviceError")  # there is room for one text, and it goes on
    worker.send(Cancel(id=4))
    done = next(event for event in iter(worker.next, None) if isinstance(event, Done))
    assert (done.id, done.finish_reason) == (4, "cancelled")
    worker.send(Shutdown())
    assert worker.process.wait(PATIENCE) == 0
    log = worker.log.read_text()
    assert all(f"noise from {source}" in log for source in ("print", "below", "a child"))
    assert "Traceback" in log


# The end.


def test_an_idle_worker_takes_no_processor_time(worker: Worker) -> None:
    stat = Path(f"/proc/{worker.process.pid}/stat")
    if not stat.exists():
        pytest.skip("needs /proc")

    def ticks() -> int:
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(0.4)
    assert ticks() - before <= 2  # of 40


@pytest.mark.posix
def test_closing_stdin_ends_the_process_in_the_middle_of_a_text(spawn, endless: Path) -> None:
    worker = spawn()
    worker.send(Generate(id=1, model="endless", params=SamplingParams(max_new_tokens=ENDLESS)))
    while not isinstance(worker.next(), Tokens):
        pass
    worker.process.send_signal(signal.SIGINT)  # the terminal's ctrl+c is not for the worker
    assert isinstance(worker.next(1), Tokens)
    worker.process.stdin.close()
    assert worker.process.wait(PATIENCE) == 0


def test_a_client_that_no_longer_reads_ends_the_process(spawn, endless: Path, tmp_path: Path) -> None:
    source, sink = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.worker"],
        stdin=subprocess.PIPE,
        stdout=sink,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(sink)
    try:
        process.stdin.write(encode(Generate(id=1, model="endless", params=SamplingParams(max_new_tokens=ENDLESS))))
        process.stdin.flush()
        with os.fdopen(source, "rb") as events:
            while not isinstance(decode_event(events.readline()), Tokens):
                pass
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


def test_requests_and_events_survive_the_wire() -> None:
    for message in (Load(id=1, model="é\u2028"), Generate(id=2, prompt="\x1b[31m\n"), SetParams(id=3, pace=0.5)):
        line = encode(message)
        assert line.count(b"\n") == 1
        assert msgspec.json.decode(line)["id"] == message.id
