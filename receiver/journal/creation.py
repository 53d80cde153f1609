"""Making the SQLite file for two users: the planes are different ones, of the group that owns the journal's folder."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_FOR_GROUP = 0o660


def create_for_group(file: Path) -> bool:
    """Create an empty `file`, mode 0660, where the folder is shared; tell whether that was done.

    Shared is a folder that a group may write to which the file would belong, as a volume with fsGroup is; and one that
    everybody may write, as provisioners for a node's own disk make it, which ignore fsGroup.

    SQLite alone makes files that only their owner may write, whatever the umask, and gives -wal and -shm the mode of the
    database when it opens it. So the file gets its name only when it has its mode: nobody opens it in between. A file that is
    there already is left as it is, with the mode that somebody gave it. Where this cannot be done, SQLite makes the file.
    """
    if os.path.lexists(file):
        return False
    try:
        folder = file.parent.stat()
        if not folder.st_mode & stat.S_IWGRP:
            return False
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            # Of another group it would be opened to people that the folder is closed to.
            if os.fstat(descriptor).st_gid != folder.st_gid and not _open_to_all(folder.st_mode):
                return False
            os.fchmod(descriptor, _FOR_GROUP)
            # Unlike a rename, a link replaces nothing: another process may have been quicker.
            os.link(name, file)
        finally:
            os.close(descriptor)
            Path(name).unlink()
    except OSError:
        return False
    return True


def _open_to_all(mode: int) -> bool:
    """Tell whether everybody may replace files in a folder of this mode, unlike in /tmp."""
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX
