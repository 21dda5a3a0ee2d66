"""Who gives a command: a name that is put on record."""

from __future__ import annotations

import getpass
import os
import pwd


def who_is_here() -> str:
    """Return the name of the operating system's user who gives the command.

    It is the one that the kernel knows, which no variable of the environment changes; so nobody is
    his own second pair of eyes. Root may be anybody: whom ``sudo`` names, else ``LOGNAME``.
    """
    if os.geteuid() == 0:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user of a container who has no name
        return str(os.getuid())
