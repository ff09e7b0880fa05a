"""Phones: people of a world act through the real HTTP surface, with retries, late and broken events."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypedDict, TypeVar

import msgspec

from groundswell.errors import Unavailable
from groundswell.model.clock import Clock
from groundswell.simulate.world import Delivery, Person, World

__all__ = ["Phones"]

ATTEMPTS_MAX: Final = 10  # with back-off: most of a minute of an unreachable server
CONNECTIONS: Final = 8
PROGRESS_EVERY: Final = 1_000

_T = TypeVar("_T")


class _Flag(TypedDict):
    key: str
    variant: str


class _Flags(TypedDict):
    flags: list[_Flag]


class Phones:
    """Drives a world against one server.

    Args:
        host: address of the collector.
        port: its port.
        write_key: key of the source that the events belong to.
    """

    def __init__(self, host: str, port: int, write_key: str, *, clock: Clock) -> None:
        self._host = host
        self._port = port
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {write_key}"}
        self._clock = clock
        self.traffic: Counter[str] = Counter()  # requests by kind and status

    def run(self, world: World, *, progress: Callable[[int], None]) -> None:
        """Let everybody act; late events are sent after everything else.

        Raises:
            Unavailable: the server did not answer for a request's whole budget of attempts.
        """
        late: list[Delivery] = []
        people = world.people()
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for start in range(0, len(people), PROGRESS_EVERY):
                crowd = people[start : start + PROGRESS_EVERY]
                shown = list(pool.map(self._ask, _shares(crowd)))
                self.traffic["flags"] += len(crowd)
                variants = {user: answer for share in shown for user, answer in share.items()}
                due: list[Delivery] = []
                for person in crowd:  # in order: the world's random numbers follow the seed, not the network
                    for delivery in world.deliveries(person, variants[person.user_id]):
                        (late if delivery.late else due).append(delivery)
                self._count(pool.map(self._send, _shares(due)))
                progress(min(start + PROGRESS_EVERY, len(people)))
            self._count(pool.map(self._send, _shares(late)))

    def _count(self, answers: Iterable[Counter[str]]) -> None:
        for counted in answers:
            self.traffic += counted

    def _ask(self, people: list[Person]) -> dict[str, dict[str, str]]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        answers: dict[str, dict[str, str]] = {}
        for person in people:
            body = msgspec.json.encode({"context": {"targetingKey": person.user_id, "country": person.country}})
            status, answer = self._post(connection, "/ofrep/v1/evaluate/flags", body)
            if status != 200:
                msg = f"the flag question of {person.user_id} was answered {status}: {answer[:200]!r}"
                raise Unavailable(msg)
            flags = msgspec.json.decode(answer, type=_Flags)["flags"]
            answers[person.user_id] = {flag["key"]: flag["variant"] for flag in flags}
        connection.close()
        return answers

    def _send(self, deliveries: list[Delivery]) -> Counter[str]:
        counted: Counter[str] = Counter()
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        for delivery in deliveries:
            for _ in range(delivery.attempts):
                status, answer = self._post(connection, "/v1/events", delivery.body)
                counted[f"events {status}"] += 1
                if status not in {200, 400}:
                    msg = f"a batch of events was answered {status}: {answer[:200]!r}"
                    raise Unavailable(msg)
        connection.close()
        return counted

    def _post(self, connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, bytes]:
        for attempt in range(ATTEMPTS_MAX):
            try:
                connection.request("POST", path, body=body, headers=self._headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException):
                connection.close()  # it reconnects by itself
            else:
                if response.status not in {429, 503}:
                    return response.status, answer
            self._clock.sleep(0.05 * 2**attempt)
        msg = f"no answer from http://{self._host}:{self._port}{path} after {ATTEMPTS_MAX} attempts"
        raise Unavailable(msg)


def _shares(items: list[_T]) -> Iterable[list[_T]]:
    """Deal ``items`` to the connections."""
    return [items[i::CONNECTIONS] for i in range(CONNECTIONS) if items[i::CONNECTIONS]]
