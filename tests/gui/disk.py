"""A disk that fills up while a trace is written."""

import errno

from visavis.gui import _files


def full_disk(monkeypatch, at):
    """The `at`-th write finds the disk full after half of its bytes; returns the list that grows by every write."""
    writes = []
    put = _files.put

    def full(stream, data):
        writes.append(len(data))
        if len(writes) == at:
            put(stream, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        put(stream, data)

    monkeypatch.setattr(_files, "put", full)
    return writes
