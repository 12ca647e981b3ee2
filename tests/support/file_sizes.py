"""A limit to the size of files in, writes that fail as on a full disk out: without filling one."""

import contextlib
import resource


@contextlib.contextmanager
def no_room_for(byte_count):
    """Within it the system refuses to write more than so many bytes to a file."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, unlimited[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
