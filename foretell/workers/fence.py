"""A fence around a process: from here on it opens no file outside some folders, whatever links are put in its way.

Source: https://docs.kernel.org/userspace-api/landlock.html, and linux/landlock.h for the numbers.
"""

import atexit
import ctypes
import glob
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, PATH_BENEATH, NO_NEW_PRIVILEGES = 1, 1, 38
LEAST_VERSION = 3  # Linux 6.2: below it, renames between folders or truncating could not be told
WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 14
READ, ALL = READ_FILE | READ_DIR, (1 << 15) - 2  # all but executing
OF_FILES = WRITE_FILE | READ_FILE | TRUNCATE
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/opt", "/nix/store", "/sys", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/self/cgroup", "/proc/self/maps", "/proc/self/statm"),
)
"""What libraries read late. Not /proc/self/environ, nor the files of other people."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/dri", "/dev/kfd", "/dev/nvidia*")


def fence(readable: Iterable[str | Path], writable: Iterable[str | Path]) -> bool:
    """Keep this thread, and those it begins, to these files and folders and the system's; False where the kernel cannot.

    Of a Python file, its neighbours may be imported still; what else lies there is not for it to read.
    Files that are open stay so. Temporary files go to a folder of their own, removed at the end.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform != "linux" or libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION) < LEAST_VERSION:
        return False
    handled = ctypes.c_uint64(ALL)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    tempfile.tempdir = tempfile.mkdtemp(prefix="foretell-job-")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)
    _allow(libc, ruleset, os.path.dirname(tempfile.tempdir), REMOVE_DIR)
    for path in map(Path, (*SYSTEM, *readable)):
        _allow(libc, ruleset, path, READ)
        if path.suffix == ".py":
            _allow(libc, ruleset, path.parent, READ_DIR)
            for neighbour in path.parent.glob("*.py"):
                _allow(libc, ruleset, neighbour, READ)
    for place in (*(device for pattern in DEVICES for device in glob.glob(pattern)), tempfile.tempdir, *writable):
        _allow(libc, ruleset, place, ALL)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    is_fenced = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(is_fenced)


def libraries() -> set[str]:
    """Where modules are that are imported late, asked before a model adds its own.

    Without the folder in which the server happened to be started.
    """
    paths = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), str(Path(__file__).parents[2])}
    return paths | {path for path in sys.path if path and Path(path).resolve() not in (Path.cwd(), Path("/"))}


def _allow(libc: ctypes.CDLL, ruleset: int, path: str | Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights &= ALL if os.path.isdir(f"/proc/self/fd/{opened}") else OF_FILES
        rule = rights.to_bytes(8, sys.byteorder) + opened.to_bytes(
            4, sys.byteorder
        )  # struct landlock_path_beneath_attr, packed
        libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
    finally:
        os.close(opened)
