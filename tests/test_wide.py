"""Rows that come as one: what hub.store.wide reads is what the database's own driver would have said."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import update

from hub.store import EVENT
from hub.store.claims import due_deliveries
from hub.store.records import UNDER_WAY
from hub.store.wide import select_rows
from tests import hubdb
from tests.hubdb import Lab

shared_url, database_url, lab = hubdb.shared_url, hubdb.database_url, hubdb.lab


@pytest.mark.parametrize("body", [None, b"", b'{"data": "\xc3\xa9\\u0000"}', b"\xff\x00 no text"])
async def test_rows_that_come_as_one_are_the_drivers_own(lab: Lab, body: bytes | None) -> None:
    """Bytes that are no text, none at all, moments and truths, each in its place and as it was."""
    rows = await lab.orders(3)
    await lab.write(lambda connection: connection.execute(update(EVENT).values(body=body)))
    query, asked = due_deliveries(False, False), {"route": "one", "now": lab.hub.now(), "most": 2}
    one_by_one = await lab.write(lambda connection: connection.execute(query, asked).all())
    together = await lab.write(lambda connection: select_rows(connection, query, asked))
    assert [tuple(row) for row in together] == [tuple(row) for row in one_by_one]
    assert [row.id for row in together] == [row.id for row in rows[:2]]
    assert [(row.body, row.again, row.lease_until) for row in together] == [(body, False, None)] * 2
    assert all(lab.hub.now() - row.received_at < timedelta(minutes=10) for row in together)


async def test_a_list_of_any_length_is_one_parameter(lab: Lab) -> None:
    rows = await lab.orders(3)
    for count in (0, 1, 3):
        ids = [row.id for row in rows[:count]]
        found = await lab.write(partial(select_rows, query=UNDER_WAY, parameters={"ids": ids}))
        assert sorted(row.id for row in found) == ids
