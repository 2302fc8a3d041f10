"""A stage of a live pipeline as a process: python -m cli.bench.pipeline.live.stage_process LAW

LAW: the pipeline's law as JSON (see `law_text`). RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT as torchrun sets them.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Final

from cli.bench.pipeline.live.group import START_S, RingLinks, announce, connect, known_store
from cli.bench.pipeline.live.stage import LiveStage
from services.verifier.stages.link import LinkBroken
from shared.planning.pieces import PipelineLaw, StageLaw
from shared.runtime.errors import innermost, words

EXIT_FAILED: Final = 1
EXIT_NEIGHBOUR: Final = 3  # another rank is gone, which has its own line


def law_text(law: PipelineLaw) -> str:
    """The law as a process is given it."""
    return json.dumps(asdict(law))


def read_law(text: str) -> PipelineLaw:
    """What `law_text` made. Raises ValueError, LookupError, TypeError."""
    fields = json.loads(text)
    stages = tuple(StageLaw(**stage) for stage in fields.pop("stages"))
    return PipelineLaw(stages, head=StageLaw(**fields.pop("head")), **fields)


def main() -> int:
    """Serve until rank 0 ends the pipeline. Returns the exit code; a failure is one line on stderr."""
    try:
        law = read_law(sys.argv[1])
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = known_store(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        announce(store, rank)
        links = connect(store, rank, world, START_S)
        try:
            asyncio.run(_serve(rank, law, links))
        finally:
            links.close()
    except KeyboardInterrupt:
        return EXIT_NEIGHBOUR
    except Exception as raised:  # whoever started this process shows the line
        error = innermost(raised)
        print(" ".join(words(error).split()), file=sys.stderr)
        return EXIT_NEIGHBOUR if isinstance(error, LinkBroken) else EXIT_FAILED
    return 0


async def _serve(rank: int, law: PipelineLaw, links: RingLinks) -> None:
    await LiveStage(rank, law, links.inbound, links.outbound, links.turns[0]).run()


if __name__ == "__main__":
    sys.exit(main())
