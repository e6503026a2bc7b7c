"""What Windows' `msvcrt` has of locks, as far as a byte that another holds is refused: whoever has the file open, in
this process or in another, until it is closed or its process ends. Made of Linux' locks of open files.
"""

from __future__ import annotations

import errno
import os
import struct
from types import ModuleType

try:
    import fcntl
except ImportError:  # Windows has the real ones
    fcntl = ModuleType("fcntl")

LK_UNLCK, LK_LOCK, LK_NBLCK, LK_RLCK, LK_NBRLCK = range(5)


def locking(descriptor: int, mode: int, nbytes: int) -> None:
    """Lock or unlock bytes from a file's current place on, as `msvcrt.locking`."""
    if mode not in (LK_UNLCK, LK_NBLCK, LK_NBRLCK):  # the others wait, for ten seconds
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    kind = fcntl.F_UNLCK if mode == LK_UNLCK else fcntl.F_WRLCK
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    asked = struct.pack("hhqqi0q", kind, os.SEEK_SET, place, nbytes, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
