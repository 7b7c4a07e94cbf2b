"""How often something may be tried, counted in memory that stays small whatever is sent."""

MINUTE = 60.0
# A thousand bytes each at most.
MOST_KEYS = 2_000
LONGEST_KEY = 120


class Throttle:
    """At most `most` tries a minute for each key. One that is refused does not count, so no key stays shut."""

    def __init__(self, most: int, keys: int = MOST_KEYS) -> None:
        self._most = most
        self._keys = keys
        self._tries: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self._tries)

    def wait(self, key: str, now: float) -> float:
        """Seconds until that key may try; 0 where it may at once, which then counts. `now` in seconds."""
        key = key[:LONGEST_KEY]
        tries = _recent(self._tries.get(key, []), now)
        if len(tries) >= self._most:
            return tries[0] + MINUTE - now
        self._tries[key] = [*tries, now]
        if len(self._tries) > self._keys:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Keep the half with the most tries, so that pushing one out takes as many tries for each of the others."""
        recent = {key: tries for key, before in self._tries.items() if (tries := _recent(before, now))}
        kept = sorted(recent, key=lambda key: len(recent[key]), reverse=True)[: self._keys // 2]
        self._tries = {key: recent[key] for key in kept}


def _recent(tries: list[float], now: float) -> list[float]:
    # A clock that was set back leaves tries in the future.
    return [at for at in tries if now - MINUTE < at <= now]
