"""`python -P -m engine.worker`: the engine as a process. It promises that nothing but protocol reaches its stdout, and
that it says hello before it imports torch.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import traceback

from engine import __version__
from engine.errors import WorkerError
from engine.inference.native import building
from engine.worker.connection import Connection
from engine.worker.machine import Machine
from engine.worker.protocol import PROTOCOL_VERSION, Error, Hello, Ready


def main() -> int:
    """Serve the client at the other end of stdin and stdout; returns the exit status."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's ctrl+c is for the app
    connection = Connection(*set_aside_streams())
    connection.send(Hello(protocol=PROTOCOL_VERSION, version=__version__, pid=os.getpid()))
    connection.aside = Machine(connection.send).take
    connection.listen()
    building.begin_to_find()  # on the first start it is built while torch is imported
    try:
        import torch

        from engine.devices import available_devices
        from engine.worker.service import Service
    except Exception as error:
        traceback.print_exc()
        line = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "install it again; minigpt-tui doctor tells more"
        connection.send(
            Error(id=None, kind=WorkerError.__name__, message=f"PyTorch cannot be imported ({line})", hint=hint)
        )
        return 1
    service = Service(connection)
    connection.send(Ready(torch=str(torch.__version__), devices=available_devices(), threads=torch.get_num_threads()))
    gc.freeze()  # torch's objects stay: to look through them all takes an eighth of a second in the middle of a text
    service.serve()
    return 0


def set_aside_streams() -> tuple[int, int]:
    """Take stdin and stdout for the protocol alone, and return their new descriptors.

    What anything else in the process (or a process that it starts) reads from stdin is empty from here on, and what
    it prints goes to stderr.
    """
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return source, sink


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to save, and taking torch down would keep the app's last moment waiting
