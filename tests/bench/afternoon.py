"""The afternoon version: the receiver that is written in an afternoon, with the same promises.

It verifies, reads the event into a SQLModel, commits it with `synchronous=FULL` and enqueues an arq job, all once a
request. The server, its settings and the load are the hub's.
"""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from arq import create_pool
from arq.connections import RedisSettings
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, create_engine
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class AfternoonEvent(SQLModel, table=True):
    """A webhook, once for each signature."""

    id: str = Field(primary_key=True)
    type: str
    signature: str = Field(unique=True)
    body: str
    received_at: datetime


def engine_of(path: Path) -> Any:
    """An engine over a SQLite file that keeps what it commits."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    AfternoonEvent.__table__.create(engine)  # type: ignore[attr-defined]
    return engine


def create_afternoon(path: Path, secret: str, redis: RedisSettings) -> Starlette:
    """The application."""
    engine = engine_of(path)

    def keep(received: AfternoonEvent) -> str | None:
        with Session(engine) as session:
            session.add(received)
            try:
                session.commit()
            except IntegrityError:
                return None
            return received.id

    async def receive(request: Request) -> Response:
        body = await request.body()
        signature = request.headers.get("x-litekart-signature", "")
        expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            return JSONResponse({"success": False}, 401)
        received = AfternoonEvent(
            id=uuid4().hex,
            type=json.loads(body)["event"],
            signature=signature,
            body=body.decode(),
            received_at=datetime.now(UTC),
        )
        event_id = await run_in_threadpool(keep, received)
        if event_id is not None:
            await request.app.state.pool.enqueue_job("deliver", event_id)
        return JSONResponse({"success": True, "data": {"id": event_id}})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.pool = await create_pool(redis)
        yield
        await app.state.pool.aclose()
        engine.dispose()

    return Starlette(routes=[Route("/webhooks/{store}", receive, methods=["POST"])], lifespan=lifespan)
