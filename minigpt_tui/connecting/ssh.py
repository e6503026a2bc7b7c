"""The engine on another machine, through the user's own ssh: the command that starts it there, and what ssh says at its
end. The protocol goes over ssh's pipes; no port is opened. Knows nothing of asyncio.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping

from engine.errors import InvalidSettingError, WorkerError

OPTIONS = (
    "-T",  # no terminal there: the protocol is no screen
    "-a",
    "-x",
    "-o",
    "BatchMode=yes",  # the app owns the terminal: a question of ssh's would stand in the middle of the screen
    "-o",
    "ConnectTimeout=15",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",  # a link that is lost without a word is noticed after 15 seconds
)

SSH_FAILED = 255
NOT_FOUND = (126, 127)

_ASKED = re.compile(r"permission denied|too many authentication failures|no more authentication methods", re.I)
_UNKNOWN_KEY = re.compile(r"host key verification failed|host identification has changed|no matching host key", re.I)
_UNKNOWN_HOST = re.compile(r"could not resolve hostname|name or service not known", re.I)
_OPTION = re.compile(r"unknown option|bad configuration option|illegal option|missing argument", re.I)


class SshPlace:
    """Another machine.

    Args:
        host: As ssh takes it: a name, user@name, or an alias of ~/.ssh/config.
        ssh: The program that stands for ssh and options of one's own, as a shell would take them.
        python: The Python to use there; empty for the `minigpt-tui` of the login shell's PATH.

    Raises:
        InvalidSettingError: The host could be taken for an option, or is none; or the command cannot be taken apart.
    """

    is_server = False

    def __init__(self, host: str, *, ssh: str = "", python: str = "") -> None:
        self.name = host
        self._host, self._python = host, python
        if host.startswith("-"):
            raise InvalidSettingError(
                f"{host!r} is no host: it would be an option of ssh's", "give options with --ssh-command"
            )
        if not host or any(character.isspace() or unicodedata.category(character) == "Cc" for character in host):
            raise InvalidSettingError(f"{host!r} is no host", "give a name, user@name, or an alias of ~/.ssh/config")
        try:
            self._ssh = shlex.split(ssh) if ssh else ["ssh"]
        except ValueError as error:
            raise InvalidSettingError(f"--ssh-command cannot be read ({error})", "quote it as in a shell") from None
        if not self._ssh:
            raise InvalidSettingError("--ssh-command is empty", "leave it out, or give a program")

    @property
    def command(self) -> tuple[str, ...]:
        """What is started on this machine."""
        return (*self._ssh, *OPTIONS, "--", self._host, remote_command(self._python))

    def environment(self) -> Mapping[str, str] | None:
        """This process's own: ssh finds the agent by it."""
        return None

    def explain(self, status: int | None, last: str, *, was_up: bool) -> tuple[WorkerError, bool]:
        """Why ssh ended; see `Place.explain`."""
        host = self._host
        if status == SSH_FAILED:
            return self._explain_link(last, was_up=was_up)
        if status in NOT_FOUND and not was_up:
            what = self._python or "minigpt-tui"
            return WorkerError(
                f"{what} was not found on {host}",
                "install minigpt-tui there, or name a Python that has it with --ssh-python",
            ), False
        said = f": {last}" if last else ""
        if status == 2 and not was_up and "worker" in last:
            return WorkerError(f"the minigpt-tui on {host} cannot be a worker{said}", "update it"), False
        how = "is gone" if status is None else f"ended with status {status}"
        return WorkerError(f"the engine on {host} {how}{said}", "worker.log has more"), was_up

    def _explain_link(self, last: str, *, was_up: bool) -> tuple[WorkerError, bool]:
        host = self._host
        if was_up:
            said = f" ({last})" if last else ""
            return WorkerError(f"the link to {host} is lost{said}"), True
        if _ASKED.search(last):
            return WorkerError(
                f"the machine {host} wants a password or a key that is not there ({last})",
                f"the app has no terminal for ssh's questions: add your key to the agent (ssh-add), "
                f"or open a link first: ssh -fNM -o ControlPath=... {host}, and the same ControlPath in ~/.ssh/config",
            ), False
        if _UNKNOWN_KEY.search(last):
            return WorkerError(f"the key of {host} is not known ({last})", f"run once: ssh {host}"), False
        if _UNKNOWN_HOST.search(last):
            return WorkerError(f"there is no host {host} ({last})", "see its name in ~/.ssh/config"), True
        if _OPTION.search(last):
            return WorkerError(f"ssh does not take its options ({last})", "see --ssh-command and ~/.ssh/config"), False
        return WorkerError(
            f"the machine {host} cannot be reached ({last or 'ssh did not say why'})", f"see: ssh {host}"
        ), True


def remote_command(python: str = "") -> str:
    """What ssh has the other machine run: the worker, as a login shell finds it.

    ssh alone has the PATH of a shell that is no login, where what a user installed is often missing. The line is the
    same to sh, bash, zsh and fish.

    Args:
        python: The Python to use; empty for the `minigpt-tui` on the PATH.
    """
    inner = f"exec {_quoted(python)} -P -m minigpt_tui worker" if python else "exec minigpt-tui worker"
    return f'exec "$SHELL" -lc {shlex.quote(inner)}'


def _quoted(path: str) -> str:
    """A path for a shell, with its ~ left to the shell."""
    if path.startswith("~/"):
        return "~/" + shlex.quote(path[2:])
    return shlex.quote(path)
