"""`python -m services.gateway`: the gateway as a process."""

import asyncio

from prometheus_client import CollectorRegistry

from services.gateway.gateway import Gateway, tokenizer_of
from shared.compute.compute import ThreadCompute
from shared.runtime.connect import connect
from shared.runtime.ids import Ids
from shared.runtime.logs import configure
from shared.runtime.service import main
from shared.runtime.settings import GatewaySettings, load_named


async def run(stop: asyncio.Event) -> None:
    """Build the gateway from its settings and run it."""
    settings = load_named(GatewaySettings)
    configure(settings.log_level, settings.log_format, role="gateway", name=settings.name)
    compute = ThreadCompute("tokenize")
    broker = connect(settings)
    try:
        gateway = Gateway(
            settings, broker, compute, Ids(settings.seed), CollectorRegistry(), tokenizer_of(settings)
        )
        await gateway.run(stop)
    finally:
        compute.close()
        await broker.close()


if __name__ == "__main__":
    main("gateway", run)
