"""The asyncio side of the engine: against the real process, and against scripted ones that break every rule."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from endless import make_endless

from engine import processes
from engine.config import ENDLESS, SamplingParams
from engine.errors import DataError, InvalidSettingError, ModelNotFoundError, WorkerError
from engine.worker.protocol import PROTOCOL_VERSION, Cancel, Done, ParamsAt, ParamsChanged, Request, Started, Tokens
from minigpt_tui import engine_client, worker_log, worker_process
from minigpt_tui.engine_client import EngineClient, GenerationStream

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of a tiny model only wait for each other."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before


@pytest.fixture(scope="module")
def model(home: Path) -> str:
    """The name of a model that writes until it is stopped."""
    return make_endless().name


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(model: str, one_thread: None) -> AsyncIterator[EngineClient]:
    """One engine for all tests that leave it as they found it."""
    client = EngineClient()
    client.moves = []
    client.on_state = lambda state, detail: client.moves.append((state, detail))
    await client.start()
    client.first = await client.load("endless")  # waits until it is ready
    yield client
    await client.close()


def endless(client: EngineClient, **options) -> GenerationStream:
    return client.generate(model="endless", params=SamplingParams(max_new_tokens=ENDLESS, seed=5), **options)


async def first_tokens(stream: GenerationStream) -> list:
    events = []
    async for event in stream:
        events.append(event)
        if isinstance(event, Tokens):
            return events
    raise AssertionError("no tokens came")


def text_of(events: list) -> str:
    return "".join(token.text for event in events if isinstance(event, Tokens) for token in event.tokens)


# The real engine.


async def test_the_engine_says_how_far_its_start_has_come(client: EngineClient) -> None:
    assert [state for state, _ in client.moves] == ["starting", "importing", "ready"]
    assert (await client.wait_ready()).devices[-1] == "cpu"
    assert client.state == "ready"
    assert client.first.model.name == "endless"
    await client.start()  # one that runs is left alone
    assert client.moves[-1] == ("ready", "")


async def test_the_client_does_without_torch() -> None:
    code = "import sys, minigpt_tui.engine_client; sys.exit(not {'torch', 'numpy', 'textual'}.isdisjoint(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], env=environment)
    assert done.returncode == 0


async def test_a_text_streams_from_start_to_done(client: EngineClient) -> None:
    params = SamplingParams(max_new_tokens=50, seed=7)
    stream = client.generate("The fox", model="endless", params=params, alternatives=2)
    events = [event async for event in stream]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Done)
    assert all(isinstance(event, Tokens) for event in events[1:-1])
    assert len(text_of(events)) == events[-1].new_tokens == 50
    again = client.generate(prompt_tokens=events[0].prompt_tokens, model="endless", params=params)
    assert text_of([event async for event in again]) == text_of(events)


async def test_settings_and_pace_change_while_a_text_streams(client: EngineClient) -> None:
    stream = endless(client, pace=0.001)
    await first_tokens(stream)
    with pytest.raises(InvalidSettingError, match="pace"):
        stream.set_params(pace=-1.0)  # refused here, and the text goes on
    stream.set_params(SamplingParams(temperature=0.0, max_new_tokens=30), pace=0.0)
    events = [event async for event in stream]
    assert isinstance(events[0], ParamsChanged)
    assert events[0].position == events[1].tokens[0].position
    assert events[-1].new_tokens == 30
    stream.set_params(pace=1.0)  # too late to matter, and no error
    stream.cancel()


async def test_a_recorded_text_is_written_again_with_its_changes(client: EngineClient) -> None:
    params = SamplingParams(max_new_tokens=60, seed=5)
    changes = [ParamsAt(20, params.replace(temperature=0.0)), ParamsAt(40, params.replace(temperature=2.0))]
    texts = []
    for pace in (0.0, 2000.0):
        stream = client.generate("The fox", model="endless", params=params, changes=changes, pace=pace)
        events = [event async for event in stream]
        told = [ParamsAt(event.position, event.params) for event in events if isinstance(event, ParamsChanged)]
        assert told == changes
        texts.append(text_of(events))
    assert texts[0] == texts[1]


async def test_a_place_of_a_text_is_looked_into(client: EngineClient) -> None:
    params = SamplingParams(max_new_tokens=9, seed=7)
    events = [event async for event in client.generate("The fox", model="endless", params=params)]
    tokens = [*events[0].prompt_tokens, *(token.token for event in events[1:-1] for token in event.tokens)]
    found = await client.inspect(tokens, 8, model="endless", params=params, top=4, attention=True, lens=True)
    assert (found.position, found.token) == (8, tokens[8])
    assert found.logprob == [token for event in events[1:-1] for token in event.tokens][1].logprob
    assert 4 <= len(found.distribution) <= 5
    assert len(found.attention) == 2 * 4 * 8 * 2
    assert len(found.lens) == 3
    with pytest.raises(InvalidSettingError, match="position is 99"):
        await client.inspect(tokens, 99, model="endless")
    with pytest.raises(DataError, match="not in the vocabulary"):
        await client.inspect([10_000], 1, model="endless")


async def test_cancelling_ends_a_text_and_what_was_written_still_comes(client: EngineClient) -> None:
    stream = endless(client)
    events = await first_tokens(stream)
    stream.cancel()
    events += [event async for event in stream]
    assert events[-1].finish_reason == "cancelled"
    assert len(text_of(events)) == events[-1].new_tokens


def cancels(client: EngineClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the ids of the texts that are cancelled in the engine."""
    ids: list[int] = []
    send = client.send

    def watched(request: Request) -> None:
        if isinstance(request, Cancel):
            ids.append(request.id)
        send(request)

    monkeypatch.setattr(client, "send", watched)
    return ids


@pytest.mark.parametrize("leaving", ["aclose", "async with", "task", "dropped"])
async def test_a_text_that_nobody_follows_any_more_is_ended(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch, leaving: str
) -> None:
    cancelled = cancels(client, monkeypatch)
    stream = endless(client, pace=0.001)
    id = stream.id
    await first_tokens(stream)
    if leaving == "aclose":
        await stream.aclose()
        assert [event async for event in stream] == []
    elif leaving == "async with":
        with contextlib.suppress(ZeroDivisionError):
            async with stream:
                raise ZeroDivisionError
    elif leaving == "task":
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        del stream
        await asyncio.sleep(0)
    assert cancelled == [id]
    assert not client.follows(id)
    await client.load("endless")  # the engine is well, and the cancelled text's last events disturb nobody


async def test_several_texts_and_a_score_at_once_do_not_mix(client: EngineClient) -> None:
    async def write(seed: int) -> str:
        params = SamplingParams(max_new_tokens=60, seed=seed)
        return text_of([event async for event in client.generate("The", model="endless", params=params)])

    *texts, scored = await asyncio.gather(*map(write, (1, 2, 1)), client.score("the fox goes", model="endless"))
    assert texts[0] == texts[2] != texts[1]
    assert len(scored.tokens) == len("the fox goes") - 1


async def test_what_the_engine_refuses_is_raised_as_its_kind(client: EngineClient) -> None:
    with pytest.raises(ModelNotFoundError, match="nobody"):
        await client.load("nobody")
    with pytest.raises(DataError):
        await client.score("x", model="endless")
    with pytest.raises(ModelNotFoundError):
        await anext(client.generate(model="nobody"))
    assert client.state == "ready"


async def test_what_cannot_be_sent_is_refused_before_it_is_sent(client: EngineClient) -> None:
    with pytest.raises(InvalidSettingError, match="pace"):
        await anext(client.generate(model="endless", pace=float("nan")))
    with pytest.raises(InvalidSettingError, match="16,777,216"):
        await client.score("x" * 17_000_000, model="endless")
    with pytest.raises(InvalidSettingError, match="surrogates"):
        await client.score("\ud800", model="endless")


@pytest.mark.posix
async def test_a_killed_engine_is_told_of_and_another_can_be_started(tmp_path: Path, model: str) -> None:
    moves = []
    client = EngineClient(log=tmp_path / "worker.log")
    client.on_state = lambda state, detail: moves.append((state, detail))
    await client.start()
    stream = endless(client, pace=0.001)
    events = await first_tokens(stream)
    waiting = asyncio.create_task(client.load("endless"))
    os.kill(client.hello.pid, signal.SIGSTOP)  # so that the load is not answered before the end
    await asyncio.sleep(0)
    os.kill(client.hello.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="SIGKILL, perhaps because memory ran out"):
        await anext(stream)
    with pytest.raises(WorkerError, match="SIGKILL"):
        await waiting
    with pytest.raises(WorkerError, match="SIGKILL"):
        await client.load("endless")
    with pytest.raises(WorkerError, match="SIGKILL"):
        await client.wait_ready()
    stream.cancel()  # no error: it has ended
    assert len(text_of(events)) == 1
    assert moves[-1][0] == "dead"
    assert "SIGKILL" in moves[-1][1]
    await client.start()
    assert (await client.load("endless")).model.name == "endless"
    await client.close()
    way_up = ["starting", "importing", "ready"]
    assert [state for state, _ in moves] == [*way_up, "dead", *way_up, "stopped"]


# Processes that do not do as they should.

PREAMBLE = """
    import os, signal, sys, time

    def say(text):
        os.write(1, text.encode() + b"\\n")

    def hello(protocol=VERSION):
        say('{"type":"hello","protocol":%d,"version":"0","pid":%d}' % (protocol, os.getpid()))

    def ready():
        say('{"type":"ready","torch":"2","devices":["cpu"],"threads":1}')

    def serve():
        for line in sys.stdin:
            if '"shutdown"' in line:
                break
""".replace("VERSION", str(PROTOCOL_VERSION))


@pytest_asyncio.fixture(loop_scope="module")
async def play(tmp_path: Path) -> AsyncIterator:
    """Makes clients of processes that follow a script."""
    clients = []

    def make(script: str, *before: str) -> EngineClient:
        path = tmp_path / f"script{len(clients)}.py"
        path.write_text(textwrap.dedent(PREAMBLE) + textwrap.dedent(script))
        clients.append(EngineClient(command=[*before, sys.executable, str(path)], log=tmp_path / "logs" / "worker.log"))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def test_a_login_shells_greeting_is_skipped_and_later_junk_is_logged(play, tmp_path: Path) -> None:
    client = play("say('Welcome!'); hello(); say('{oops'); say('[]'); ready(); serve()")
    await client.start()
    await client.wait_ready()
    log = (tmp_path / "logs" / "worker.log").read_text()
    assert "before hello: b'Welcome!'" in log
    assert "{oops" in log


async def test_another_version_of_the_protocol_is_refused(play) -> None:
    client = play("hello(protocol=99); serve()")
    await client.start()
    with pytest.raises(WorkerError, match=f"speaks version 99 of the protocol, and this program {PROTOCOL_VERSION}"):
        await client.wait_ready()
    assert client.state == "dead"


async def test_a_process_that_ends_says_so_with_its_status_and_its_last_words(play) -> None:
    client = play("hello(); ready(); print('a detail', 'the \\x1b[31mreason\\n', file=sys.stderr); sys.exit(3)")
    await client.start()
    with pytest.raises(WorkerError, match=r"ended with status 3: its log ends: a detail the  \[31mreason"):
        await client.load()


@pytest.mark.posix
async def test_a_crash_below_python_is_named_by_its_first_words(play) -> None:
    client = play("import faulthandler; faulthandler.enable(); hello(); faulthandler._sigsegv()")
    await client.start()
    with pytest.raises(WorkerError, match="SIGSEGV: its log ends: Fatal Python error: Segmentation fault"):
        await client.wait_ready()


async def test_an_engine_without_torch_says_what_is_wrong(play) -> None:
    client = play("""
        hello()
        say('{"type":"error","id":null,"kind":"WorkerError","message":"no torch","hint":"get it"}')
    """)
    await client.start()
    with pytest.raises(WorkerError, match="no torch: get it"):
        await client.wait_ready()


@pytest.mark.posix
async def test_a_process_that_closes_its_stdout_is_ended(play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "CLOSE_SECONDS", 0.1)
    client = play("hello(); ready(); os.close(1); time.sleep(1000)")
    await client.start()
    with pytest.raises(WorkerError, match="closed its stdout"):
        await client.load()
    assert client._process.returncode == -signal.SIGKILL


async def test_a_process_that_never_says_hello_is_given_up(play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "HELLO_SECONDS", 0.2)
    client = play("say('password?'); time.sleep(1000)")
    await client.start()
    with pytest.raises(WorkerError, match="said nothing"):
        await client.wait_ready()


@pytest.mark.posix
async def test_a_death_is_noticed_though_a_child_still_holds_the_pipe(
    play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker_process, "DRAIN_SECONDS", 0.05)
    client = play("""
        import subprocess
        child = subprocess.Popen(["sleep", "1000"])
        hello()
        say("child %d" % child.pid)
        os._exit(4)
    """)
    await client.start()
    with pytest.raises(WorkerError, match="ended with status 4"):
        await client.wait_ready()
    log = (tmp_path / "logs" / "worker.log").read_text()
    os.kill(int(log.split("b'child ")[1].split("'")[0]), signal.SIGKILL)


async def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    client = EngineClient(command=["/no/such/program"], log=tmp_path / "worker.log")
    with pytest.raises(WorkerError, match="/no/such/program"):
        await client.start()
    assert client.state == "dead"
    with pytest.raises(WorkerError, match="/no/such/program"):
        await client.load()
    await client.close()


@pytest.mark.posix
async def test_closing_ends_even_a_process_that_will_not_hear(play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_client, "CLOSE_SECONDS", 0.1)
    client = play("signal.signal(signal.SIGTERM, signal.SIG_IGN); hello(); ready(); time.sleep(1000)")
    await client.start()
    await client.wait_ready()
    waiting = asyncio.create_task(client.load())
    await asyncio.sleep(0)
    await asyncio.gather(client.close(), client.close())
    with pytest.raises(WorkerError, match="the engine was closed"):
        await waiting
    assert client.state == "stopped"
    assert client._process.returncode == -signal.SIGKILL
    await client.close()


async def test_closing_asks_first(play, tmp_path: Path) -> None:
    client = play(f"hello(); ready(); serve(); open({str(tmp_path / 'bye')!r}, 'w').close()")
    await client.start()
    await client.wait_ready()
    await client.close()
    assert (tmp_path / "bye").exists()
    assert client._process.returncode == 0


async def test_a_message_of_nearly_16_mib_arrives_and_a_longer_one_fails_its_request_alone(play) -> None:
    client = play("""
        hello(); ready()
        for size in (16_000_000, 17_000_000):
            id = sys.stdin.readline().split('"id":')[1].split(",")[0].rstrip("}\\n")
            say('{"type":"started","id":%s,"prompt":"%s","prompt_tokens":[],"seed":1}' % (id, "x" * size))
        serve()
    """)
    await client.start()
    assert len((await anext(client.generate())).prompt) == 16_000_000
    with pytest.raises(WorkerError, match="cannot be read"):
        await anext(client.generate())
    assert client.state == "ready"


async def test_a_flood_of_events_leaves_the_loop_time_for_others(play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigpt_tui.engine_client.TURN_BYTES", 100)  # two of the lines below
    client = play("""
        hello(); ready()
        id = sys.stdin.readline().split('"id":')[1].split(",")[0].rstrip("}\\n")
        say("\\n".join('{"type":"tokens","id":%s,"tokens":[],"context":%d}' % (id, n) for n in range(5000)))
        say('{"type":"error","id":%s,"kind":"DataError","message":"enough"}' % id)
        serve()
    """)
    await client.start()
    await client.wait_ready()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    events = []
    with contextlib.suppress(DataError):  # which comes after the last event
        async for event in client.generate():
            events.append(event.context)
    task.cancel()
    assert events == list(range(5000))
    assert turns > 2000


async def test_a_listener_that_fails_does_not_end_the_session(play) -> None:
    client = play("hello(); ready(); serve()")
    faults = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    client.on_state = lambda state, detail: 1 / 0
    try:
        await client.start()
        await client.wait_ready()
    finally:
        loop.set_exception_handler(None)
    assert {type(fault) for fault in faults} == {ZeroDivisionError}


async def test_a_client_that_was_never_started_says_so(tmp_path: Path) -> None:
    client = EngineClient(log=tmp_path / "worker.log")
    for request in (client.wait_ready(), client.load(), anext(client.generate())):
        with pytest.raises(WorkerError, match="the engine is not running"):
            await request
    await client.close()


@pytest.mark.posix
@pytest.mark.parametrize("ending", ["await client.close()", "pass", "sys.exit()"])
async def test_the_end_of_a_program_leaves_no_process_and_no_warning(tmp_path: Path, ending: str) -> None:
    script = tmp_path / "worker.py"
    script.write_text(textwrap.dedent(PREAMBLE) + "hello(); ready(); serve()")
    program = f"""
        import asyncio, pathlib, sys
        from minigpt_tui.engine_client import EngineClient

        async def main():
            log = pathlib.Path({str(tmp_path / "log")!r})
            client = EngineClient(command=[sys.executable, {str(script)!r}], log=log)
            await client.start()
            await client.wait_ready()
            print(client.hello.pid, flush=True)
            {ending}

        asyncio.run(main())
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


# The log and the environment.


@pytest.mark.posix
async def test_the_log_is_private_and_set_aside_when_it_has_grown(play, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "worker.log"
    log.parent.mkdir(mode=0o700)
    log.write_bytes(b"x" * (worker_log.MAX_BYTES + 1))
    client = play("print('words', file=sys.stderr, flush=True); hello(); ready(); serve()")
    await client.start()
    await client.wait_ready()
    assert "words" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "logs" / "worker.log.1").stat().st_size == worker_log.MAX_BYTES + 1


@pytest.mark.posix
async def test_the_default_log_is_in_a_private_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "home"))
    client = EngineClient(command=[sys.executable, "-c", "pass"])
    await client.start()
    with pytest.raises(WorkerError, match="ended with status 0"):
        await client.wait_ready()
    log = tmp_path / "home" / "state" / "worker.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


async def test_a_log_that_cannot_be_written_does_not_keep_the_engine_from_running(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    client = EngineClient(command=[sys.executable, "-c", "exit(5)"], log=tmp_path / "file" / "worker.log")
    await client.start()
    with pytest.raises(WorkerError, match="ended with status 5"):
        await client.wait_ready()


async def test_the_engine_is_found_where_this_one_is_and_never_in_the_current_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/somewhere", ""]))
    entries = processes.environment()["PYTHONPATH"].split(os.pathsep)
    assert entries == ["/somewhere", str(ROOT)]


async def test_a_start_whose_caller_is_cancelled_still_comes_to_its_end(play) -> None:
    client = play("hello(); ready(); serve()")
    start = asyncio.create_task(client.start())
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await client.start()  # another caller counts on it
    await client.wait_ready()
    assert client.state == "ready"


async def test_a_start_that_is_itself_cancelled_leaves_nobody_waiting(play, monkeypatch: pytest.MonkeyPatch) -> None:
    client = play("sys.exit(1)")
    await client.start()
    with pytest.raises(WorkerError):
        await client.wait_ready()
    logs = []
    monkeypatch.setattr(worker_log.WorkerLog, "close", lambda log: logs.append(log))
    start = asyncio.create_task(client._start())
    await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    monkeypatch.undo()
    for log in logs:
        log.close()
    assert len(logs) == 1
    assert client.state == "dead"
    with pytest.raises(WorkerError, match="interrupted"):
        await asyncio.wait_for(client.wait_ready(), 5)
