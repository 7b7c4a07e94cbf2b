"""The first version's database, frozen: its tables, and rows in each of them.

Nothing here follows the models; its program is in tests/data. `FILLED` is SQL for SQLite; `for_postgres` spells its
bytes as PostgreSQL does.
"""

import asyncio
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config

import hub.migrations

VERSION = "0001"

COLUMNS = {
    "attempt": "delivery_id number worker started_at duration_ms outcome status_code request response note url",
    "audit": "id at who action detail",
    "delivery": (
        "id event_id event_seq store route entity status attempts budget span key_no look again reads_state looked_at"
        " lost created_at next_attempt_at lease_until error_key last_error released_by released_at replay_id before"
    ),
    "effect": "scope name delivery_id value url at",
    "event": (
        "seq id store type entity dedupe_key content_hash body headers occurred_at received_at origin secret repeats"
        " last_repeat_at fanned_out_at not_taken"
    ),
    "event_key": "value kind store event_id",
    "refused": "id signed store status reason details remote headers body cut at event_id",
    "repeat": "id event_id body_hash headers body at",
    "replay": "id who at filter to_route as_new pace most state cursor total done",
    "route_state": (
        "route fingerprint paused_at paused_by paused_reason resumed_at failures opened_at open_reason probe_at"
        " probe_wait probe_id stopped_until next_free_at"
    ),
    "stat": "hour kind name label count",
    "worker": "id started_at seen_at",
}

# What the store sent, by the number of the event.
BODIES = {
    1: '{"event":"order.placed","data":{"orderId":"ord_1001","orderNo":1001,"total":59.9,"marker":"m1"},"timestamp":"2024-01-15T10:30:00Z"}',  # noqa: E501
    2: '{"event":"order.updated","data":{"orderId":"ord_1001","status":"shipped","marker":"m2"},"timestamp":"2024-01-15T10:31:00Z"}',  # noqa: E501
    3: '{"event":"payment.completed","data":{"paymentId":"pay_1","orderId":"ord_1001","amount":59.9,"marker":"m3"},"timestamp":"2024-01-15T10:32:00Z"}',  # noqa: E501
    4: '{"event":"inventory.low","data":{"sku":"KET-1","stock":3,"marker":"m4"},"timestamp":"2024-01-15T10:33:00Z"}',
    5: '{"event":"customer.registered","data":{"customerId":"cus_1","firstName":"Zoë","marker":"m5"},"timestamp":"2024-01-15T10:34:00Z"}',  # noqa: E501
    6: '{"event":"product.created","data":{"productId":"prd_1","name":"Wool scarf","marker":"m6"},"timestamp":"2024-01-15T10:35:00Z"}',  # noqa: E501
}
# The keys of what was still to be delivered, by the number of the event.
ON_ROUTE_ONE = {2: "dlv_17aa7f3bd1c8e0000000000000000003-n1-l1", 3: "dlv_17aa7f3bd1c8e0000000000000000004",
                5: "dlv_17aa7f3bd1c8e0000000000000000008"}  # fmt: skip
ON_ROUTE_BROKEN = {5: "dlv_17aa7f3bd1c8e0000000000000000009"}
# Its connector reads the present state, so that a repeat of event 4 makes it look once more.
LOOKS_AGAIN = "dlv_17aa7f3bd1c8e0000000000000000007-l1"
PAUSED = "dlv_17aa7f3bd1c8e0000000000000000005"
HELD = "dlv_17aa7f3bd1c8e0000000000000000006"
DEAD = "dlv_17aa7f3bd1c8e0000000000000000002"

FILLED = f"""
INSERT INTO event (id, store, type, entity, dedupe_key, content_hash, body, headers, occurred_at, received_at, origin,
 secret, repeats, last_repeat_at, fanned_out_at, not_taken) VALUES
('evt_1', 'main', 'order.placed', 'order:ord_1001',
 X'6f6f726465722e706c61636564206f726465723a6f72645f31303031', X'1da1b4cbd8ba4a1d575eb01832a8d111',
 CAST('{BODIES[1]}' AS BLOB), '{{"content-type":"application/json","x-litekart-delivery":"d-1"}}', 1705314600000000,
 1705314600500000, 'webhook', '9f86d081', 2, 1705314700000000, 1705314600600000, '{{"paused":"events: order.*"}}'),
('evt_2', 'main', 'order.updated', 'order:ord_1001',
 X'7440060ef9828a2100afe7dc733bc65d4ac3e6c5c45d800cc6995d9e025a087759', X'b9b7646c776d41c373ca9442b7fcc613',
 CAST('{BODIES[2]}' AS BLOB), '{{}}', 1705314660000000, 1705314660500000, 'webhook', '9f86d081', 0, NULL,
 1705314660600000, NULL),
('evt_3', 'main', 'payment.completed', 'order:ord_1001',
 X'7440060ef9861da800ee3ebdde90afbe0cc511aadcdae5c8ef299147ae6bf71277', X'373fc12d5659b73bacbcab9fe4c60c03',
 CAST('{BODIES[3]}' AS BLOB), NULL, 1705314720000000, 1705314720500000, 'webhook', '9f86d081', 0, NULL,
 1705314720600000, NULL),
('evt_4', 'main', 'inventory.low', 'inventory:KET-1',
 X'7440060ef989b12f00b7d5e1e7b7ae511d9aa8b36f8583ad2271d12c2ec7ca6b00', X'62bfe3fd648f648721f966fb7e9cb992',
 CAST('{BODIES[4]}' AS BLOB), '{{}}', 1705314780000000, 1705314780500000, 'repeat', NULL, 0, NULL,
 1705314780600000, NULL),
('evt_5', 'main', 'customer.registered', 'customer:cus_1',
 X'6f637573746f6d65722e7265676973746572656420637573746f6d65723a6375735f31', X'0cdd3a8a8e0e3e62f4ec7c5cdda435c1',
 CAST('{BODIES[5]}' AS BLOB), '{{}}', 1705314840000000, 1705314840500000, 'webhook', '9f86d081', 0, NULL,
 1705314840600000, NULL),
('evt_6', 'main', 'product.created', 'product:prd_1',
 X'6f70726f647563742e637265617465642070726f647563743a7072645f31', X'b1ec2b85ff7db6e82398467e5b9aafcf',
 CAST('{BODIES[6]}' AS BLOB), '{{}}', 1705314900000000, 1705314900500000, 'webhook', '9f86d081', 0, NULL, NULL, NULL);

INSERT INTO repeat (id, event_id, body_hash, headers, body, at) VALUES
('rpt_1', 'evt_1', X'084468feae25e98e9db6a80c85a33189', '{{}}',
 CAST('{{"event":"order.placed","data":{{"orderId":"ord_1001","total":6}},"timestamp":"2024-01-15T10:30:09Z"}}'
 AS BLOB), 1705314700000000);

INSERT INTO delivery (id, event_id, event_seq, store, route, entity, status, attempts, budget, span, key_no, look,
 again, reads_state, looked_at, lost, created_at, next_attempt_at, lease_until, error_key, last_error, released_by,
 released_at, replay_id, before) VALUES
('dlv_17aa7f3bd1c8e0000000000000000001', 'evt_1', 1, 'main', 'one', 'order:ord_1001', 'delivered', 1, 10, 10, 0, 0,
 false, false, NULL, 0, 1705314600600000, NULL, NULL, NULL, NULL, 'asha', 1705314600700000, NULL, NULL),
('{DEAD}', 'evt_1', 1, 'main', 'two', 'order:ord_1001', 'dead', 1, 10, 10, 0, 0,
 false, false, NULL, 0, 1705314600600000, NULL, NULL, 'http 400', 'HTTP 400: nö', NULL, NULL, NULL, NULL),
('dlv_17aa7f3bd1c8e0000000000000000003', 'evt_2', 2, 'main', 'one', 'order:ord_1001', 'pending', 2, 12, 10, 1, 1,
 true, false, 1705314660700000, 0, 1705314660600000, 1705314999000000, NULL, 'http 500', 'HTTP 500', NULL, NULL,
 'rpl_1', '{{"status":"dead","error_key":"http 500","last_error":"HTTP 500","budget":2,"lost":0}}'),
('dlv_17aa7f3bd1c8e0000000000000000004', 'evt_3', 3, 'main', 'one', 'order:ord_1001', 'pending', 0, 10, 10, 0, 0,
 false, false, NULL, 0, 1705314720600000, 1705314720600000, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
('{PAUSED}', 'evt_3', 3, 'main', 'paused', 'order:ord_1001', 'pending', 0, 10, 10, 0, 0,
 false, false, NULL, 0, 1705314720600000, 1705314720600000, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
('{HELD}', 'evt_4', 4, 'main', 'one', 'inventory:KET-1', 'held', 1, 11, 10, 0, 0,
 false, false, NULL, 0, 1705314780600000, NULL, NULL, 'hold', 'somebody must approve this', NULL, NULL, NULL, NULL),
('dlv_17aa7f3bd1c8e0000000000000000007', 'evt_4', 4, 'main', 'two', 'inventory:KET-1', 'skipped', 1, 10, 10, 0, 0,
 false, true, 1705314780700000, 0, 1705314780600000, NULL, NULL, 'skip', 'enough is on order', NULL, NULL, NULL, NULL),
('dlv_17aa7f3bd1c8e0000000000000000008', 'evt_5', 5, 'main', 'one', 'customer:cus_1', 'pending', 1, 10, 10, 0, 0,
 false, false, NULL, 1, 1705314840600000, 1705314875600000, 1705314875600000, NULL, NULL, NULL, NULL, NULL, NULL),
('dlv_17aa7f3bd1c8e0000000000000000009', 'evt_5', 5, 'main', 'broken', 'customer:cus_1', 'pending', 0, 10, 10, 0, 0,
 false, false, NULL, 0, 1705314840600000, 1705314840600000, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO attempt (delivery_id, number, worker, started_at, duration_ms, outcome, status_code, request, response,
 note, url) VALUES
('dlv_17aa7f3bd1c8e0000000000000000001', 1, 'wrk_1@shop:7', 1705314600800000, 41, 'delivered', 200, 'POST / HTTP/1.1',
 'HTTP/1.1 200', 'HTTP 200', 'https://erp.test/orders/1'),
('{DEAD}', 1, 'wrk_1@shop:7', 1705314600900000, 12, 'rejected', 400, 'POST /', 'nö', 'HTTP 400: nö', NULL),
('dlv_17aa7f3bd1c8e0000000000000000003', 1, 'wrk_1@shop:7', 1705314660700000, 9, 'try_again', 500, NULL, NULL,
 'HTTP 500', NULL),
('dlv_17aa7f3bd1c8e0000000000000000003', 2, 'wrk_1@shop:7', 1705314670700000, 9, 'late', NULL, NULL, NULL, NULL, NULL),
('{HELD}', 1, 'wrk_1@shop:7', 1705314780700000, 1, 'hold', NULL, NULL, NULL, 'somebody must approve this', NULL),
('dlv_17aa7f3bd1c8e0000000000000000007', 1, 'wrk_1@shop:7', 1705314780700000, 1, 'skip', NULL, NULL, NULL, NULL, NULL),
('dlv_17aa7f3bd1c8e0000000000000000008', 1, 'wrk_2@shop:8', 1705314840600000, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

INSERT INTO effect (scope, name, delivery_id, value, url, at) VALUES
('dlv_17aa7f3bd1c8e0000000000000000001', 'mail', 'dlv_17aa7f3bd1c8e0000000000000000001', '<1@shop.test>', NULL,
 1705314600840000),
('main/one/order:ord_1001', 'order', 'dlv_17aa7f3bd1c8e0000000000000000001', 'SO-17', 'https://erp.test/SO-17',
 1705314600841000);

INSERT INTO event_key (value, kind, store, event_id) VALUES
('ord_1001', 'order', 'main', 'evt_1'), ('1001', 'number', 'main', 'evt_1'), ('ord_1001', 'order', 'main', 'evt_2'),
('pay_1', 'payment', 'main', 'evt_3'), ('KET-1', 'sku', 'main', 'evt_4'), ('cus_1', 'customer', 'main', 'evt_5');

INSERT INTO route_state (route, fingerprint, paused_at, paused_by, paused_reason, resumed_at, failures, opened_at,
 open_reason, probe_at, probe_wait, probe_id, stopped_until, next_free_at) VALUES
('one', '0badcafe', NULL, NULL, NULL, 1705314500000000, 3, NULL, NULL, NULL, 0, NULL, 1705314600000000,
 1705314900000000),
('two', NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL),
('paused', '0badcafe', 1705314710000000, 'asha', 'stock-taking', NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL),
('broken', '0badcafe', NULL, NULL, NULL, NULL, 10, 1705314845000000, 'HTTP 503', 9005314845000000, 900, NULL, NULL,
 NULL);

INSERT INTO refused (id, signed, store, status, reason, details, remote, headers, body, cut, at, event_id) VALUES
('ref_1', true, 'main', 422, 'the JSON is not an event', '[{{"field":"data","message":"must be an object"}}]',
 '192.0.2.7', '{{}}', CAST('{{"event":"order.placed"}}' AS BLOB), false, 1705314600000000, NULL),
('ref_2', false, 'nowhere', 404, 'there is no store of that name', '[]', NULL, '{{}}', X'00ff', true, 1705314600000000,
 'evt_1');

INSERT INTO replay (id, who, at, filter, to_route, as_new, pace, most, state, cursor, total, done) VALUES
('rpl_1', 'asha', 1705314650000000, '{{"status":"dead","route":"one"}}', NULL, true, 0.5, 10, 'done',
 'dlv_17aa7f3bd1c8e0000000000000000003', 1, 1);

INSERT INTO audit (id, at, who, action, detail) VALUES
('aud_1', 1705314710000000, 'asha', 'pause', '{{"route":"paused","reason":"stock-taking"}}'),
('aud_2', 1705314720000000, 'asha', 'resume', NULL);

INSERT INTO stat (hour, kind, name, label, count) VALUES
(1705312800000000, 'refused', 'main', 'VALIDATION_ERROR', 1), (1705312800000000, 'refused', '?', 'NOT_FOUND', 9);

INSERT INTO worker (id, started_at, seen_at) VALUES
('wrk_1@shop:7', 1705314000000000, 1705314840000000), ('wrk_2@shop:8', 1705314000000000, 1705314845000000);
"""


def for_postgres(sql: str) -> str:
    return re.sub(r"X'([0-9a-f]*)'", r"CAST('\\x\1' AS BYTEA)", sql).replace("AS BLOB", "AS BYTEA")


async def make(url: str) -> None:
    """The first version's schema, by its own migration alone, filled."""
    config = Config()
    config.set_main_option("script_location", str(Path(str(hub.migrations.__file__)).parent))
    config.attributes["url"] = url
    await asyncio.to_thread(command.upgrade, config, VERSION)
    await run(url, FILLED)


async def run(url: str, sql: str) -> None:
    """Run SQL that was written for SQLite."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            database.executescript(sql)
        return
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(for_postgres(sql))
    finally:
        await connection.close()


async def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows that `sql` finds, read past the hub."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            return list(database.execute(sql))
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in the columns of the first version."""
    return {
        table: await query(url, f"SELECT {', '.join(names.split())} FROM {table} ORDER BY 1, 2")
        for table, names in COLUMNS.items()
    }


async def schema_of(url: str) -> str:
    """The version of the schema that is in this database."""
    ((found,),) = await query(url, "SELECT version_num FROM alembic_version")
    return str(found)
