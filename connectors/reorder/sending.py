"""How an order goes out, whatever its form: what each of mail.py, post.py and erp.py offers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from connectors.reorder.order import Order
from hub.connector import Context, Event, Preview


@dataclass(frozen=True)
class Done:
    """What came of it: a sentence, the number under which the order is known, where to see it, what was answered."""

    text: str
    number: str
    url: str | None = None
    answer: str | None = None


class Sending(ABC):
    """One way to a supplier. It may be asked again for an order that it sent: the supplier is to get it once."""

    @abstractmethod
    async def send(self, order: Order, event: Event, ctx: Context) -> Done: ...

    async def has_it(self, order: Order, ctx: Context) -> bool:
        """Whether the other side says that it has the order already."""
        return False

    @abstractmethod
    async def preview(self, order: Order, event: Event, ctx: Context) -> Preview: ...

    @abstractmethod
    async def check(self, ctx: Context) -> str:
        """A sentence; raises with the remedy if it cannot work. Sends nothing."""
