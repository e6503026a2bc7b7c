"""Who may ask and how much: the key, the size of a request, its texts and tokens, the line before the engine; and what
happens to those who ask when the engine dies, or the server is to end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import httpx
import openai
import pytest
from serving import ENDED, PATIENCE, Server, is_fault, until

from minigpt_tui.server.line import Line, LineFull

KEY = "sésame, ouvre-toi"
BEARER = {"Authorization": f"Bearer {KEY}".encode()}


LEAVING = """
import collections, weakref
from minigpt_tui.server.running import keep_all_made_so_far

class Left:
    def __init__(self):
        self.itself = self

keep_all_made_so_far()
running, alive, most = collections.deque(maxlen=3000), weakref.WeakSet(), 0
for _ in range(100_000):
    running.append(Left())
    alive.add(running[-1])
    most = max(most, len(alive))
print(most)
"""
"""Many things that run for a while and then hold nothing but themselves: the most that there were at one time."""


@pytest.fixture(scope="module")
def narrow(tiny_model, endless_model, tmp_path_factory: pytest.TempPathFactory):
    """A server for all addresses, with a key and with room for one text and two that wait."""
    words = ["--max-running", "1", "--max-waiting", "2", "--max-batch", "3", "--max-body", "4000"]
    words += [
        "--max-prompt-tokens",
        "32",
        "--max-new-tokens",
        "100000",
        "--cors-origin",
        "https://example.com",
        "--drain-seconds",
        "2",
    ]
    environment = {"HOST": "0.0.0.0", "MINIGPT_API_KEY": KEY}
    models = ["--model", "endless", "--model", "tiny"]
    server = Server(tmp_path_factory.mktemp("narrow"), *models, *words, **environment)
    try:
        server.wait()
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server
    finally:
        assert server.end() == ENDED


def post(server: Server, path: str = "/generate", **fields) -> httpx.Response:
    return httpx.post(server.url + path, json=fields, headers=BEARER, timeout=60)


def state(server: Server) -> tuple[int, int]:
    """How many texts are written, and how many wait."""
    body = httpx.get(f"{server.url}/health").json()
    return body["running"], body["waiting"]


def read(lines) -> list[dict | str]:
    """What the events of a stream hold."""
    data = [line.removeprefix("data: ") for line in lines if line]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/generate", "/nothing"])
def test_without_the_key_nothing_is_answered_but_health_and_the_documents(narrow: Server, path):
    for given in (None, "Bearer", "Bearer sesame", "Basic c2VzYW1l", f"Bearer {KEY} "[:-2]):
        headers = {"Authorization": given.encode()} if given else {}
        refused = httpx.request("POST" if path == "/generate" else "GET", narrow.url + path, headers=headers)
        assert is_fault(refused, 401, type="invalid_request_error", code="invalid_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
    for open_path in ("/health", "/docs", "/redoc", "/openapi.json"):
        assert httpx.get(narrow.url + open_path).status_code == 200
    assert httpx.get(f"{narrow.url}/v1/models", headers=BEARER).status_code == 200
    assert httpx.get(f"{narrow.url}/health", headers={"Host": "my.server.example"}).status_code == 200


def test_openais_client_knows_when_its_key_is_wrong(narrow: Server):
    with openai.OpenAI(base_url=f"{narrow.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as error:
            client.models.list()
        assert error.value.code == "invalid_api_key"


def test_a_page_of_an_origin_that_was_named_may_ask_and_no_other(narrow: Server):
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    may = httpx.options(f"{narrow.url}/generate", headers={"Origin": "https://example.com", **asks})
    assert (may.status_code, may.headers["access-control-allow-origin"]) == (200, "https://example.com")
    other = httpx.options(f"{narrow.url}/generate", headers={"Origin": "https://evil.example", **asks})
    assert "access-control-allow-origin" not in other.headers


def test_what_is_too_large_is_refused_before_it_is_read(narrow: Server):
    assert is_fault(post(narrow, prompt="a" * 4000), 413, code="request_too_large")
    headers = {**BEARER, "Content-Type": "application/json"}
    pieces = (b'{"prompt": "', *[b"a" * 1000] * 5, b'"}')
    assert is_fault(httpx.post(f"{narrow.url}/generate", content=iter(pieces), headers=headers), 413)
    long = post(narrow, model="tiny", prompt="a fox " * 6)
    assert is_fault(long, 422, param="prompt", code="context_length_exceeded")
    assert is_fault(post(narrow, "/evaluate", model="tiny", text="a fox " * 6), 422, code="context_length_exceeded")
    told = post(narrow, "/v1/completions", model="tiny", prompt="a fox " * 6, echo=True, stream=True)
    assert is_fault(told, 422, param="prompt", code="context_length_exceeded")
    assert is_fault(post(narrow, prompt="a", max_length=100_001), 422, param="max_length")
    assert is_fault(post(narrow, "/v1/completions", prompt="a", n=4), 422, param="n")
    assert is_fault(post(narrow, "/v1/completions", prompt=["a"] * 4), 422, param="prompt")


def test_a_request_whose_head_has_no_end_is_cut_off(narrow: Server):
    address = httpx.URL(narrow.url)
    with socket.create_connection((address.host, address.port), timeout=PATIENCE) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(b"X-More: " + b"a" * (32 << 20))


def test_what_requests_leave_behind_is_collected_before_it_grows():
    found = subprocess.run([sys.executable, "-c", LEAVING], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 20_000


def test_a_full_line_turns_away_and_says_when_to_come_again(narrow: Server):
    long = {"prompt": "The", "max_tokens": 100_000, "stream": True}
    with ExitStack() as stack:
        first = stack.enter_context(
            httpx.stream("POST", f"{narrow.url}/v1/completions", json=long, headers=BEARER, timeout=60)
        )
        lines = first.iter_lines()
        next(lines)
        assert is_fault(post(narrow, "/v1/completions", prompt="a", n=3), 429)  # two of the three would fit
        client = stack.enter_context(httpx.Client())
        with pytest.raises(httpx.ReadTimeout):  # it waits for its turn, and gives up
            client.post(f"{narrow.url}/v1/completions", json=long, headers=BEARER, timeout=0.2)
        until(lambda: state(narrow) == (1, 0), "the place in the line of one who has gone")
        waits = asyncio.run(_ask_while_one_waits(narrow, first))
        assert waits.status_code == 200
    until(lambda: state(narrow) == (0, 0), "the end of what was left")


async def _ask_while_one_waits(narrow: Server, first: httpx.Response) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        fields = {"model": "tiny", "max_length": 4}
        batch = {**fields, "prompts": ["The", "fox"]}
        second = asyncio.create_task(client.post(f"{narrow.url}/generate/batch", json=batch, headers=BEARER))
        await asyncio.to_thread(until, lambda: state(narrow) == (1, 2), "its places in the line")
        third = await client.post(f"{narrow.url}/generate", json={**fields, "prompt": "The"}, headers=BEARER)
        assert is_fault(third, 429, type="requests", code="rate_limit_exceeded")
        assert 1 <= int(third.headers["retry-after"]) <= 60
        first.close()
        return await second


async def test_places_go_to_those_who_came_first():
    line = Line(places=2, waiting=3)
    (a,), (b, c), (d,) = line.admit(1), line.admit(2), line.admit(1)
    assert (line.running, line.waiting) == (2, 2)
    with pytest.raises(LineFull):
        line.admit(2)
    order = []

    async def wait(name, ticket):
        await ticket.wait()
        order.append(name)

    tasks = [asyncio.create_task(wait(name, ticket)) for name, ticket in zip("dcba", (d, c, b, a), strict=True)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(order) == ["a", "b"]
    c.leave()  # who waits may leave as well, once and again
    c.leave()
    b.leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order[2:] == ["d"]
    a.leave()
    d.leave()
    assert (line.running, line.waiting) == (0, 0)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nobody_overtakes_those_who_wait():
    line = Line(places=2, waiting=2)
    first, (second, third) = line.admit(1), line.admit(2)
    first[0].leave()
    second.leave()
    assert line.waiting == 0
    assert third.turn.done()


@pytest.mark.posix
def test_when_the_engine_dies_everyone_is_told_another_one_starts_and_sigterm_finishes_what_streams(narrow: Server):
    """In one, and the last of this file: an engine takes a while to start."""
    dead, url = narrow.engine, f"{narrow.url}/v1/completions"
    fields = {"model": "endless", "prompt": "The", "max_tokens": 100_000}
    waited: list[httpx.Response] = []
    with httpx.stream("POST", url, json={**fields, "stream": True}, headers=BEARER, timeout=PATIENCE) as stream:
        lines = stream.iter_lines()
        next(lines)
        waits = threading.Thread(target=lambda: waited.append(post(narrow, "/v1/completions", **fields)))
        waits.start()
        until(lambda: state(narrow) == (1, 1), "one in the line")
        dead.kill()
        *_, last = read(lines)
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "engine_unavailable")
    waits.join()
    assert is_fault(waited[0], 503, type="server_error", code="engine_unavailable")
    assert waited[0].headers["retry-after"]
    health = httpx.get(f"{narrow.url}/health")  # torch takes longer to import than this
    assert (health.status_code, health.json()["status"]) == (503, "unavailable")
    until(lambda: httpx.get(f"{narrow.url}/health").status_code == 200, "another engine")
    assert narrow.engine.pid != dead.pid
    assert post(narrow, model="tiny", prompt="The", max_length=5).status_code == 200
    assert "minigpt_engine_deaths 1.0" in httpx.get(f"{narrow.url}/metrics", headers=BEARER).text

    # SIGTERM: all that was taken on has its turn, what is not finished then is cut off, and nothing new is taken.
    engine = narrow.engine
    streamed: dict[int, list] = {}

    def follow(length: int) -> None:
        asked = {**fields, "max_tokens": length, "stream": True}
        with httpx.stream("POST", url, json=asked, headers=BEARER, timeout=PATIENCE) as stream:
            streamed[length] = read(stream.iter_lines())

    with httpx.stream("POST", url, json={**fields, "stream": True}, headers=BEARER, timeout=PATIENCE) as stream:
        lines = stream.iter_lines()
        next(lines)
        threads = [threading.Thread(target=follow, args=(length,)) for length in (50, 100_000)]
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            until(lambda: state(narrow) == (1, waiting), "its place in the line")  # noqa: B023
        narrow.process.send_signal(signal.SIGTERM)
        until(lambda: not answers(narrow), "the end of listening")
    for thread in threads:
        thread.join()
    assert streamed[50][-1] == "[DONE]"
    assert streamed[50][-2]["choices"][0]["finish_reason"] == "length"
    assert streamed[100_000][0]["choices"][0]["text"]
    assert streamed[100_000][-1]["error"]["message"] == "the server is ending, and this was cut off"
    assert narrow.process.wait(PATIENCE) == 0
    until(lambda: not engine.is_running(), "the end of the engine")


def answers(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health").status_code == 200
    except httpx.TransportError:
        return False
