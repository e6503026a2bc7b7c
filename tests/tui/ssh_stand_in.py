"""A program that stands for ssh: it runs what it is given on this machine, as another would, with a home of its own. It
greets as login shells do, refuses, asks for a password, or loses the link, as a test wishes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

SSH = r"""#!/bin/sh
dir=$(dirname "$0")
printf '%s\n' "$@" > "$dir/arguments"
echo $$ > "$dir/pid"
echo try >> "$dir/tries"
case $(cat "$dir/mode") in
refuse) echo "ssh: connect to host box port 22: Connection refused" >&2; exit 255 ;;
unknown) echo "ssh: Could not resolve hostname box: Name or service not known" >&2; exit 255 ;;
key) echo "Host key verification failed." >&2; exit 255 ;;
password)
    case "$*" in *BatchMode=yes*) echo "me@box: Permission denied (publickey,password)." >&2; exit 255 ;; esac
    printf "me@box's password: " > /dev/tty; sleep 60 ;;
missing) echo "sh: 1: exec: minigpt-tui: not found" >&2; exit 127 ;;
old) echo '{"type":"hello","protocol":1,"version":"0.0.1","pid":1}'; sleep 60 ;;
esac
echo "Welcome to box."
echo "Last login: never"
printf 'no line end: '
for command; do :; done
export SHELL="$dir/shell" MINIGPT_HOME="$dir/home"
cd "$dir/home"
exec 3<&0
sh -c "$command" <&3 &
child=$!
trap 'kill -9 $child; echo "Timeout, server box not responding." >&2; exit 255' USR1
trap 'kill -9 $child; exit 255' TERM
wait $child
exit $?
"""

SHELL = r"""#!/bin/sh
# A login shell that knows where minigpt-tui is.
PATH="$(dirname "$0")/there:$PATH" exec sh -c "$2"
"""

COMMAND = r"""#!/bin/sh
exec {python} -P -m minigpt_tui "$@"
"""


class StandIn:
    """The program in a folder of its own.

    Attributes:
        home: The other machine's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        (folder / "there").mkdir(parents=True)
        self.home.mkdir()
        command = COMMAND.format(python=sys.executable)
        for name, text in (("ssh", SSH), ("shell", SHELL), ("there/minigpt-tui", command)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.mode("ok")

    def mode(self, name: str) -> None:
        """What it does when it is started next."""
        (self.folder / "mode").write_text(name)

    @property
    def arguments(self) -> list[str]:
        """What it was given last."""
        return (self.folder / "arguments").read_text().splitlines()

    @property
    def tries(self) -> int:
        """How often it was started."""
        return len((self.folder / "tries").read_text().splitlines())

    def lose_the_link(self) -> None:
        """End as ssh does when the other machine does not answer any more."""
        os.kill(int((self.folder / "pid").read_text()), signal.SIGUSR1)
