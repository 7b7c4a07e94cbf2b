"""Connectors of these cases; a config names them as `tests.faults.connectors:Name`."""

import os
import signal

from hub.connector import Connector, Context, Event, Receipt


class Fatal(Connector):
    """Ends its whole process, as the kernel does to one that takes too much memory."""

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        os.kill(os.getpid(), signal.SIGKILL)
        return Receipt("not reached")


class Hungry(Connector):
    """Takes memory until there is no more."""

    async def deliver(self, event: Event, ctx: Context) -> Receipt:
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
