"""What a message costs in each stage of the processors: their own parts over a journal, one step after the other.

    python -m tests.bench.stages JOURNAL LAKE

The real program writes a batch while it computes the next one, in threads of Polars, deltalake and its own, so CPU time
cannot be told apart there. Here nothing overlaps: the CPU time of the whole process between two points belongs to the
stage between them. The parts add up to what the real program uses but for its loop, and imports count for nobody.

Prints one JSON object: `messages`, and CPU seconds by stage.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.core.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from gateway.journal.reader import SegmentReader
from processors.contracts import load
from processors.sinks.lake import Lake, LakeTable
from processors.stages import chain as chain_stage
from processors.stages.chain import Chain
from processors.stages.decode import StreamDecoder

STAGES: Final = ("read", "decode", "clocks", "duplicates", "windows", "rest", "lake")
"""`read` is the journal's frames into columns; `rest` is what of the chain is in no other, mostly the raw rows."""


class Stopwatch:
    """CPU seconds of this process by stage; stages may be inside each other, each counts without those inside."""

    def __init__(self) -> None:
        self.used_s = dict.fromkeys(STAGES, 0.0)
        self._inside_s = 0.0

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its CPU time going to `stage`."""

        def run(*arguments: Any, **named: Any) -> Any:
            outside_s, self._inside_s = self._inside_s, 0.0
            began_s = time.process_time()
            answer = function(*arguments, **named)
            took_s = time.process_time() - began_s
            self.used_s[stage] += took_s - self._inside_s
            self._inside_s = outside_s + took_s
            return answer

        return run


def main(journal: Path, lake: Path) -> None:
    """Run the whole journal through the stages and print what they cost."""
    watch = Stopwatch()
    for stage, where, name in (
        ("decode", StreamDecoder, "decode"),
        ("clocks", chain_stage, "clamp_clocks"),
        ("duplicates", chain_stage, "drop_duplicates"),
        ("windows", chain_stage, "advance"),
    ):
        setattr(where, name, watch.timed(stage, getattr(where, name)))
    reader = SegmentReader(journal)
    chain = Chain(load.load_contracts([]))
    tables = [LakeTable(name=name, schema=schema) for name, schema in chain.schemas.items()]
    sink = Lake(lake, tables)
    read, run, write = watch.timed("read", reader.read), watch.timed("rest", chain.run), watch.timed("lake", sink.write)
    watch.used_s = dict.fromkeys(STAGES, 0.0)
    state, offset, messages = chain.empty_state(), reader.start_offset(), 0
    while len(batch := read(offset, rows_max=BATCH_ROWS_MAX, bytes_max=BATCH_BYTES_MAX)):
        outputs, state = run(batch, state)
        write(outputs.tables, end_offset=outputs.end_offset)
        offset = batch.end_offset
        messages += outputs.counts.entries
    print(json.dumps({"messages": messages, "cpu_s": watch.used_s}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
