"""`minigpt-tui serve`: models over HTTP. Imports the server, an extra, only when the options were checked."""

from __future__ import annotations

import click
from click.core import ParameterSource

from engine.errors import InvalidSettingError, MiniGPTError
from minigpt_tui.addresses import is_this_machine
from minigpt_tui.cli.options import Common, ModelName, engine_device_option, pass_common, precision_option
from minigpt_tui.cli.streams import say


class ServerError(MiniGPTError):
    """The server cannot be started."""


@click.command()
@click.option("--model", "models", type=ModelName(), multiple=True,
              help="A model to serve; repeatable, the first one is the default.")  # fmt: skip
@click.option("--host", envvar="HOST", default="127.0.0.1", show_default=True, show_envvar=True,
              help="The address to answer at.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), envvar="PORT", default=8000, show_default=True,
              show_envvar=True, help="The port to answer at; 0 is any that is free.")  # fmt: skip
@click.option("--api-key", envvar="MINIGPT_API_KEY", show_envvar=True, metavar="KEY",
              help="What every request has to bring; better given as the variable.")  # fmt: skip
@click.option("--no-auth", is_flag=True, help="Answer whoever can reach another --host than this machine.")
@click.option("--cors-origin", "cors", multiple=True, metavar="ORIGIN",
              help="Let pages of this origin ask, such as https://example.com; repeatable.")  # fmt: skip
@click.option("--drain-seconds", type=click.IntRange(0, 86_400), default=30, show_default=True, metavar="N",
              help="How long what is being written may go on after SIGTERM.")  # fmt: skip
@click.option("--max-prompt-tokens", type=click.IntRange(1, 1_000_000), default=8192, show_default=True, metavar="N",
              help="The longest prompt.")  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1, 1_000_000), default=4096, show_default=True, metavar="N",
              help="The longest text.")  # fmt: skip
@click.option("--max-batch", type=click.IntRange(1, 10_000), default=64, show_default=True, metavar="N",
              help="Texts of one request.")  # fmt: skip
@click.option("--max-running", type=click.IntRange(1, 1024), default=64, show_default=True, metavar="N",
              help="Texts that are written at the same time.")  # fmt: skip
@click.option("--max-waiting", type=click.IntRange(0, 100_000), default=256, show_default=True, metavar="N",
              help="Texts that wait for their turn; further requests are turned away with 429.")  # fmt: skip
@click.option("--max-body", type=click.IntRange(1024, 1 << 30), default=1 << 20, show_default=True, metavar="BYTES",
              help="The largest request.")  # fmt: skip
@engine_device_option
@precision_option
@pass_common
def serve(
    common: Common,
    /,
    models: tuple[str, ...],
    host: str,
    port: int,
    api_key: str | None,
    no_auth: bool,
    cors: tuple[str, ...],
    drain_seconds: int,
    max_prompt_tokens: int,
    max_new_tokens: int,
    max_batch: int,
    max_running: int,
    max_waiting: int,
    max_body: int,
) -> None:
    """Serve models over HTTP, as OpenAI's API has it (/v1/completions, /v1/chat/completions) and plainly (/generate).

    Without a key it answers this machine alone. SIGTERM ends it: no new requests, what is being written is finished.
    """
    if api_key is not None and not api_key.strip():
        raise InvalidSettingError("the API key is empty", "give one with --api-key or MINIGPT_API_KEY")
    if api_key and no_auth:
        raise click.UsageError("there is an API key (--api-key or MINIGPT_API_KEY) and --no-auth: choose one")
    if not is_this_machine(host) and not api_key and not no_auth:
        ctx = click.get_current_context()
        said = " (HOST in the environment)" if ctx.get_parameter_source("host") is ParameterSource.ENVIRONMENT else ""
        raise InvalidSettingError(
            f"{host}{said} is reached from other machines, and there is no API key",
            "set MINIGPT_API_KEY, or add --no-auth if everybody may ask",
        )
    from minigpt_tui.server.limits import Limits

    limits = Limits(
        prompt_tokens=max_prompt_tokens,
        new_tokens=max_new_tokens,
        batch=max_batch,
        running=max_running,
        waiting=max_waiting,
        body_bytes=max_body,
    )
    try:
        from minigpt_tui.server.running import Serving
        from minigpt_tui.server.running import serve as run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "prometheus_client"):
            raise
        raise ServerError(
            f"the server needs {error.name}, which is not installed", "pip install 'minigpt-tui[serve]'"
        ) from None
    run(
        Serving(
            models=models or (common.model,),
            device=common.device,
            precision=common.precision,
            host=host,
            port=port,
            api_key=(api_key or "").strip(),
            cors=cors,
            drain_seconds=drain_seconds,
            limits=limits,
        ),
        say,
    )
