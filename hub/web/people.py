"""Who looks at the dashboard, as its pages see them."""

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request


@dataclass(frozen=True)
class Person:
    """Someone who is logged in. `session_id` is the hash under which their session is kept."""

    name: str
    role: str
    session_id: str

    @property
    def is_operator(self) -> bool:
        """May they change something?"""
        return self.role == "operator"


def person_of(request: Request) -> Person:
    """Who asks. Every page but the login has someone."""
    person: Person = request.scope["person"]
    return person


def operator_of(request: Request) -> Person:
    """Who asks, if they may change something. Raises HTTPException 403."""
    person = person_of(request)
    if not person.is_operator:
        raise HTTPException(403, "a viewer may look and change nothing; ask an operator")
    return person
