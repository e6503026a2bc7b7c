"""The link to another machine through a real ssh: a server of the test's own on loopback, with keys made for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.errors import WorkerError
from engine.worker.answers import ModelsListed, RunsListed
from engine.worker.protocol import Done
from engine.worker.questions import ListModels, ListRuns
from minigpt_tui.connecting.ssh import SshPlace
from minigpt_tui.engine_client import EngineClient

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not SSHD or not shutil.which("ssh") or not shutil.which("ssh-keygen"), reason="OpenSSH's server is not installed"
)

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitUserEnvironment yes
SetEnv MINIGPT_HOME={home} PYTHONPATH={root} OMP_NUM_THREADS=1
"""


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running server; gives the folder with its keys and `ssh_config`, whose host is `box`."""
    monkeypatch.setenv("MINIGPT_HOME", str(tmp_path / "here"))
    (tmp_path / "there").mkdir()
    for name in ("host_key", "key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "key.pub", tmp_path / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = CONFIG.format(port=port, folder=tmp_path, home=tmp_path / "there", root=ROOT)
    (tmp_path / "sshd_config").write_text(config)
    host_key = (tmp_path / "host_key.pub").read_text().split()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    (tmp_path / "ssh_config").write_text(
        f"Host box\n HostName 127.0.0.1\n Port {port}\n UserKnownHostsFile {tmp_path}/known\n IdentitiesOnly yes\n"
        " IdentityAgent none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # which a server that root starts wants to be there
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert server.poll() is None, server.stderr.read()
                assert time.monotonic() < end, "sshd does not answer"
                time.sleep(0.05)
        yield tmp_path
    finally:
        server.terminate()
        server.communicate()


def place(folder: Path, key: str = "key") -> SshPlace:
    return SshPlace("box", ssh=f"ssh -F {folder}/ssh_config -i {folder}/{key}", python=sys.executable)


async def test_a_text_is_written_and_the_link_lost_and_made_again_through_a_real_ssh(loopback: Path):
    client = EngineClient(place=place(loopback))
    await client.start()
    assert (await client.ask(ListRuns(), RunsListed)).runs == ()
    models = (await client.ask(ListModels(), ModelsListed)).models
    assert models[0].name == "shakespeare"
    loaded = await client.load(device="cpu", precision="fp32")
    assert loaded.model.name == "shakespeare"
    events = [event async for event in client.generate("ROMEO:", device="cpu", precision="fp32")]
    assert isinstance(events[-1], Done)
    # The server's end of the link dies; the client hears of it, and the next link works.
    stream = client.generate("ROMEO:", device="cpu", precision="fp32", pace=5.0)
    await anext(stream)
    os.kill(client.hello.pid, 9)
    with pytest.raises(WorkerError, match="box"):
        [event async for event in stream]
    assert client.may_pass
    await client.start()
    await client.wait_ready()
    first = client.hello.pid
    await client.close()
    await asyncio.to_thread(wait_until_gone, first)  # nothing stays behind there


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while psutil.pid_exists(pid):
        assert time.monotonic() < end, "it is still there"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("key", "known", "words"),
    [("other_key", True, "wants a password or a key"), ("key", False, "the key of box is not known")],
)
async def test_a_real_ssh_that_would_ask_is_told_in_words(loopback: Path, key: str, known: bool, words: str):
    if not known:
        (loopback / "known").write_text("")
    client = EngineClient(place=place(loopback, key))
    await client.start()
    with pytest.raises(WorkerError, match=words):
        await client.wait_ready()
    assert not client.may_pass
    await client.close()
