"""What was sent and what arrived, and the proof that each message arrived once where it should and nowhere else."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from hub.demo.counterparts import FAILURES, Arrival
from hub.demo.screen import Answered, Row
from hub.demo.story import PLACES, Step


@dataclass
class Ledger:
    """`answers` and `expected` by event id; `arrivals` in the order they came; `asked`: the paths of the store's API.

    `about`: the last event that named an id.
    """

    answers: dict[str, Answered] = field(default_factory=dict)
    expected: dict[str, Step] = field(default_factory=dict)
    arrivals: list[Arrival] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def number_of(self, event_id: str) -> int | None:
        """The demo's number of an event; None for one that somebody else sent."""
        answer = self.answers.get(event_id)
        return answer.number if answer else None

    def taken(self) -> list[Arrival]:
        """What arrived of the events that are expected."""
        return [one for one in self.arrivals if one.refusal is None and one.event_id in self.expected]

    def missing(self) -> list[str]:
        """A line for each message that has not arrived."""
        there = {(one.event_id, one.place) for one in self.taken()}
        return [
            f"#{self.number_of(event_id)} {step.type} did not reach {place}"
            for event_id, step in self.expected.items()
            for place in PLACES
            if place in step.reaches and (event_id, place) not in there
        ]

    def mistakes(self, listed: int) -> list[str]:
        """A line for each thing that is wrong; none when all arrived once, and the failures were retried.

        `listed` is how many deliveries of these events the hub knows.
        """
        meant = sum(len(step.reaches) for step in self.expected.values())
        more = [f"the hub lists {listed} deliveries, and {meant} were meant"] if listed != meant else []
        return [*self.missing(), *self._too_much(), *self._not_retried(), *self._not_asked(), *more]

    def _too_much(self) -> Iterator[str]:
        for (event_id, place), count in Counter((one.event_id, one.place) for one in self.taken()).items():
            name = f"#{self.number_of(event_id)} {self.expected[event_id].type}"
            if place not in self.expected[event_id].reaches:
                yield f"{name} reached {place}, which no route says"
            elif count > 1:
                yield f"{name} reached {place} {count} times"

    def _not_retried(self) -> Iterator[str]:
        refused = [one for one in self.arrivals if one.refusal is not None and one.event_id in self.expected]
        retried = {one.key for one in self.taken() if one.attempt == FAILURES + 1}
        if len(refused) != FAILURES or {one.key for one in refused} != retried:
            yield f"{len(refused)} attempts were refused; {FAILURES} of one message were meant, and a third one taken"

    def _not_asked(self) -> Iterator[str]:
        """Orders that the hub told of without having asked the store for them."""
        paths = {path.rpartition("/")[2] for path in self.asked}
        for event_id, step in self.expected.items():
            if step.type == "order.placed" and step.document["data"]["orderId"] not in paths:
                yield f"#{self.number_of(event_id)} {step.type}: the store was not asked for the order"

    def rows(self) -> list[Row]:
        """The summary, a row for each counterpart."""
        taken = self.taken()
        return [
            Row(
                place,
                messages=sum(one.place == place for one in taken),
                retries=sum(one.attempt - 1 for one in taken if one.place == place),
                seconds=[one.at - self.answers[one.event_id].at for one in taken if one.place == place],
            )
            for place in PLACES
        ]
