"""Which requests may be under way at an endpoint: in the order of arrival, at its pace, as many as it takes."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.rate_control import RateControl

if TYPE_CHECKING:
    from indexer.chain.rpc.endpoint import Endpoint

# Seconds that the head waits for a place among the requests under way.
_URGENT_AFTER = 1.0


class UnderWay:
    """A request that is being answered. It holds one of the places that the endpoint's concurrency allows."""

    def __init__(self, admission: "Admission", endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.since = time.monotonic()
        self._admission = admission
        self._superseded = False

    def supersede(self) -> None:
        """Another request asks the same: this one gives its place away, and is counted as hanging."""
        with self._admission.lock:
            if not self._superseded:
                self._superseded = True
                self._admission.hanging += 1
                self._admission.rate.finished()
                self._admission.lock.notify_all()

    def ended(self) -> None:
        """It was answered, or given up."""
        with self._admission.lock:
            if self._superseded:
                self._admission.hanging -= 1
            else:
                self._admission.rate.finished()
                self._admission.lock.notify_all()


class Admission:
    """The line before an endpoint. Thread-safe.

    Attributes:
        hanging: requests that were not answered in time, and have not ended yet.

    Args:
        rate: the endpoint's pace and concurrency.
        lock: guards ``rate``; notified when a place becomes free.
        clock: a monotonic clock, seconds.
        sleep: sleeps for seconds.
    """

    def __init__(
        self,
        rate: RateControl,
        lock: threading.Condition,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
    ) -> None:
        self.rate = rate
        self.lock = lock
        self.hanging = 0
        self._clock = clock
        self._sleep = sleep
        self._line: deque[object] = deque()

    def begin(self, endpoint: "Endpoint") -> UnderWay:
        """The request for which :meth:`wait` has got a place at the endpoint."""
        return UnderWay(self, endpoint)

    def wait(self, calls: int, context: RequestContext) -> None:
        """Waits for the endpoint's pace, in the order of arrival: where all raced, one could wait for ever."""
        place = object()
        since = time.monotonic()
        with self.lock:
            self._line.append(place)
        try:
            while True:
                context.check()
                with self.lock:
                    now = self._clock()
                    delay = self.rate.delay(now, calls)
                    # Requests that are never answered may hold all places: the head does not wait for them.
                    hurried = context.urgent and delay <= 0 and time.monotonic() - since > _URGENT_AFTER
                    if not hurried and (self._line[0] is not place or (delay <= 0 and self.rate.full())):
                        self.lock.wait(0.1)
                        continue
                    if delay <= 0:
                        self.rate.started(now, calls)
                        return
                context.pause(delay, self._sleep)
        finally:
            with self.lock:
                self._line.remove(place)
                self.lock.notify_all()
