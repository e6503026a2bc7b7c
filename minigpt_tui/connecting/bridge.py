"""`python -P -m minigpt_tui.connecting.bridge URL`: a worker whose engine is a server with OpenAI's API. To the app it
is a worker like any other; what a server has no way to do is said in words. The key comes in its environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Coroutine
from functools import partial

from engine import __version__
from engine.catalog import CheckpointInfo
from engine.errors import InvalidSettingError, MiniGPTError, ModelNotFoundError, WorkerError
from engine.inference.stream import Alternative, ScoredToken
from engine.worker.__main__ import set_aside_streams
from engine.worker.answers import ModelsListed, encode_answer
from engine.worker.connection import Connection
from engine.worker.protocol import (
    PROTOCOL_VERSION,
    Ask,
    Cancel,
    Error,
    Event,
    Generate,
    Hello,
    Inspect,
    Load,
    Loaded,
    ModelInfo,
    Ready,
    Request,
    Score,
    Scored,
    SetParams,
    Shutdown,
    Told,
)
from engine.worker.questions import ListModels
from minigpt_tui.connecting.server_api import Model, ServerApi
from minigpt_tui.connecting.server_place import KEY_VARIABLE
from minigpt_tui.connecting.server_score import score
from minigpt_tui.connecting.server_text import Habits, Pieces, ServerText

NO_INSIDE = "a server shows neither attention nor layers, and of tokens what it told with them"


class Bridge:
    """Answers the app's requests with what a server says.

    Args:
        api: The server.
        send: Takes the events.
    """

    def __init__(self, api: ServerApi, send: Callable[[Event], None]) -> None:
        self._api, self._send = api, send
        self._pieces, self._habits = Pieces(), Habits()
        self._texts: dict[int, ServerText] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._session = uuid.uuid4().hex[:8]  # numbers of pieces are of this process alone, and so are texts
        self._default = ""
        self._known: dict[str, Model] = {}

    def take(self, request: Request | Error) -> None:
        """Begin to answer a request."""
        match request:
            case SetParams() if text := self._texts.get(request.id):
                text.change(request)
            case Cancel() if text := self._texts.get(request.id):
                text.cancel()
            case Cancel() if task := self._tasks.get(request.id):
                task.cancel()  # it has not begun yet
            case Load():
                self._begin(request.id, self._load(request))
            case Generate():
                self._begin(request.id, self._generate(request))
            case Score():
                self._begin(request.id, self._score(request))
            case Ask():
                self._begin(request.id, self._tell(request))
            case Inspect():
                self._fail(request.id, InvalidSettingError(NO_INSIDE, "an engine of ours does"))
            case Error():
                self._send(request)

    async def close(self) -> None:
        """Let go of what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._api.close()

    def _begin(self, id: int, work: Coroutine[None, None, None]) -> None:
        async def attend() -> None:
            try:
                await work
            except MiniGPTError as error:
                self._fail(id, error)
            except Exception as error:
                traceback.print_exception(error)
                self._fail(
                    id, WorkerError(f"the link to the server failed: {type(error).__name__}", "its log has more")
                )
            finally:
                self._texts.pop(id, None)
                self._tasks.pop(id, None)

        self._tasks[id] = asyncio.create_task(attend())

    def _fail(self, id: int, error: MiniGPTError) -> None:
        self._send(Error(id=id, kind=type(error).__name__, message=error.message, hint=error.hint))

    # Models.

    async def _find(self, name: str) -> Model:
        """The model of a name; the server's first one for none."""
        models = await self._api.models()
        if not models and not name:
            raise ModelNotFoundError(f"{self._api.name} tells of no model", "load one there, or name it with --model")
        if not models:
            models = [Model(name)]  # some tell only of what they have stored; it will say if it has not this one
        found = next((model for model in models if not name or model.id == name), None)
        if found is None:
            raise ModelNotFoundError(
                f"{self._api.name} has no model {name!r}", f"it has {', '.join(model.id for model in models[:8])}"
            )
        self._default = self._default or models[0].id
        self._known[found.id] = found
        return found

    async def _load(self, request: Load) -> None:
        began = asyncio.get_running_loop().time()
        model = await self._find(request.model)
        info = ModelInfo(
            name=model.id,
            path=f"{self._api.url}#{model.id}.{self._session}",
            family="server",
            parameters=model.parameters,
            vocab_size=0,
            block_size=model.context,
            n_layer=0,
            n_head=0,
            n_embd=0,
            tokenizer="",
            device=self._api.name,
            precision="",
            sha256="",
        )
        self._send(Loaded(id=request.id, model=info, seconds=asyncio.get_running_loop().time() - began))

    async def _tell(self, ask: Ask) -> None:
        if not isinstance(ask.question, ListModels):
            raise WorkerError(f"{self._api.name} has an API for texts alone", "its machine is not to be seen from here")
        models = tuple(
            CheckpointInfo(name=model.id, path="", parameters=model.parameters, block_size=model.context)
            for model in await self._api.models()
        )
        self._send(Told(id=ask.id, answer=encode_answer(ModelsListed(models))))

    # Texts.

    async def _generate(self, request: Generate) -> None:
        if request.prompt_tokens is None:
            prompt = request.prompt
            tokens = tuple(self._pieces.id_of(piece) for piece in [prompt] if piece)  # it counts as one token
        else:
            prompt, tokens = self._pieces.text_of(request.prompt_tokens), request.prompt_tokens
        model = request.model or self._default or (await self._find("")).id
        text = self._texts[request.id] = ServerText(
            self._api,
            self._habits,
            self._pieces,
            self._send,
            request,
            model=self._known.get(model, Model(model)),
            prompt=prompt,
            tokens=tokens,
        )
        await text.run()

    async def _score(self, request: Score) -> None:
        text = request.text if request.tokens is None else self._pieces.text_of(request.tokens)
        model = request.model or self._default or (await self._find("")).id
        told = await score(self._api, model, text, request.alternatives)
        ids = tuple(self._pieces.id_of(piece) for piece, _, _ in told.tokens)
        self._send(
            Scored(
                id=request.id,
                loss=told.loss,
                perplexity=told.perplexity,
                bits_per_byte=told.bits_per_byte,
                tokens=tuple(
                    ScoredToken(
                        piece,
                        logprob,
                        0,
                        top=tuple(Alternative(self._pieces.id_of(other), other, value) for other, value in top),
                    )
                    for piece, logprob, top in told.tokens[1:]
                ),
                text=text,
                ids=ids,
                ends=told.ends,
            )
        )


async def serve(connection: Connection, url: str, key: str) -> None:
    """Answer until the app says so, or has gone."""
    loop, requests = asyncio.get_running_loop(), asyncio.Queue[Request | Error]()

    def listen() -> None:
        while True:
            for arrival in connection.receive(None):
                loop.call_soon_threadsafe(requests.put_nowait, arrival.message)
                if isinstance(arrival.message, Shutdown):
                    return

    connection.listen()
    threading.Thread(target=listen, daemon=True).start()
    bridge = Bridge(ServerApi(url, key), connection.send)
    connection.send(Ready(torch="", devices=(), threads=0))
    while not isinstance(request := await requests.get(), Shutdown):
        bridge.take(request)
    await bridge.close()


def main() -> int:
    """Serve the app at the other end of stdin and stdout; returns the exit status."""
    key = os.environ.pop(KEY_VARIABLE, "")
    connection = Connection(*set_aside_streams())
    connection.send(Hello(protocol=PROTOCOL_VERSION, version=__version__, pid=os.getpid()))
    asyncio.run(partial(serve, connection, sys.argv[1], key)())
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # a connection may be in the middle of something; nothing is left to save
