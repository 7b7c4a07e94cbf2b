"""`hub` whose receiver waits for a request's head for 3 s and for its body for 2 s, in place of 15 and 10."""

import functools

from hub import process
from hub.cli import main
from hub.web.app import create_app
from hub.web.protocol import Gate

HEAD_WITHIN = 3.0
BODY_WITHIN = 2.0

if __name__ == "__main__":
    vars(process)["Gate"] = functools.partial(Gate, head_within=HEAD_WITHIN)
    vars(process)["create_app"] = functools.partial(create_app, body_within=BODY_WITHIN)
    main()
