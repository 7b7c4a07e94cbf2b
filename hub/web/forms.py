"""What a page's form sends: names and values, bounded."""

import asyncio
from urllib.parse import parse_qsl

from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST_BODY = 64 * 1024
MOST_FIELDS = 2_000
BODY_WITHIN = 10.0
FORM = "application/x-www-form-urlencoded"


async def form_of(request: Request) -> ImmutableMultiDict[str, str]:
    """The fields of a posted form. Raises HTTPException: 415 for another kind of body, 400, 408 for a slow one."""
    if request.headers.get("content-type", FORM).partition(";")[0].strip().lower() != FORM:
        raise HTTPException(415, "what is posted here is a form of this page")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            body = await request.body()
    except TimeoutError:
        raise HTTPException(408, "the form did not arrive in time") from None
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="replace", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise HTTPException(400, "the form cannot be read") from None
    return ImmutableMultiDict(fields)
