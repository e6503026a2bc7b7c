"""What the tests of an engine by ssh share: the program that stands for ssh, and what is made on its machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_maker import RunMaker
from ssh_stand_in import StandIn

from minigpt_tui.connecting.ssh import SshPlace
from minigpt_tui.engine_client import EngineClient


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(tmp_path / "box")
    monkeypatch.setenv("PATH", f"{stand_in.folder}:{Path('/usr/bin')}:{Path('/bin')}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return stand_in


@pytest.fixture
def there(ssh: StandIn, monkeypatch: pytest.MonkeyPatch):
    """Makes things on the other machine."""

    def make(what):
        with monkeypatch.context() as patch:
            patch.setenv("MINIGPT_HOME", str(ssh.home))
            return what()

    return make


@pytest.fixture
def runs():
    maker = RunMaker()
    yield maker
    maker.let_go()


@pytest.fixture
async def engine(own_home: Path, ssh: StandIn):
    client = EngineClient(place=SshPlace("box"))
    yield client
    await client.close()
