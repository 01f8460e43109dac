"""amqtt as a broker for everybody: `python -m benchmarks.amqtt_broker PORT`."""

from __future__ import annotations

import asyncio
import sys

from amqtt.broker import Broker  # type: ignore[import-untyped,unused-ignore]  # no stubs


async def main() -> None:
    """Serve until killed."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
