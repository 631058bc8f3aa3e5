"""The file of acknowledged messages survives its writer."""

from pathlib import Path

import pytest

from simulators.acknowledged import FLUSH_S, Acknowledged, AcknowledgedFile, payload_digest, read_acknowledged


class Clock:
    """A monotonic clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_records_come_back_in_order(tmp_path: Path):
    """Two devices, interleaved, with sequence numbers counted from the first one given."""
    path = tmp_path / "acknowledged"
    with AcknowledgedFile(path, ["bus-1", "bus-2"]) as file:
        file.add(0, 5, [b"a", b"b"])
        file.add(1, 0, [b"c"])
        file.add(0, 7, [b"d"])
    assert [
        Acknowledged("bus-1", 5, payload_digest(b"a")),
        Acknowledged("bus-1", 6, payload_digest(b"b")),
        Acknowledged("bus-2", 0, payload_digest(b"c")),
        Acknowledged("bus-1", 7, payload_digest(b"d")),
    ] == list(read_acknowledged(path))


def test_torn_last_record_is_left_out(tmp_path: Path):
    """A kill may end the file anywhere; what was whole stays readable."""
    path = tmp_path / "acknowledged"
    with AcknowledgedFile(path, ["bus-1"]) as file:
        file.add(0, 0, [b"a", b"b"])
    whole = path.read_bytes()
    for cut in range(1, 28):
        path.write_bytes(whole[:-cut])
        assert [Acknowledged("bus-1", 0, payload_digest(b"a"))] == list(read_acknowledged(path))


def test_record_reaches_the_file_once_the_flush_time_has_passed(tmp_path: Path):
    """A busy event loop may not come to flushing, so adding flushes too."""
    clock = Clock()
    path = tmp_path / "acknowledged"
    with AcknowledgedFile(path, ["bus-1"], now_s=clock) as file:
        file.add(0, 0, [b"a"])
        assert len(list(read_acknowledged(path))) == 0
        clock.now_s = FLUSH_S
        file.add(0, 1, [b"b"])
        assert len(list(read_acknowledged(path))) == 2


@pytest.mark.parametrize("content", [b"", b"not json\n", b'{"format":"other"}\n', b"[]\n"])
def test_foreign_file_is_refused_by_name(tmp_path: Path, content: bytes):
    """The oracle must not take an empty or foreign file for a run without acknowledgements."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="foreign"):
        list(read_acknowledged(path))
