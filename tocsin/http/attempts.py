"""How often a password may be tried: by one address, and for one user. Bounded memory; the time is an argument.

An attempt is counted before the password is checked, so that many at once are no way around, and given back if it was
right. The same holds for names that nobody has, so that it does not tell which ones exist.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict, deque
from collections.abc import Hashable

WINDOW_SECONDS = 300.0
MOST_BY_ADDRESS = 10
MOST_FOR_USER = 20
MOST_REMEMBERED = 10_000


class Attempts:
    """The latest failures of each key: at most `most` within any `WINDOW_SECONDS`. Forgets the oldest keys first."""

    def __init__(self, most: int, remembered: int = MOST_REMEMBERED) -> None:
        self._most, self._remembered = most, remembered
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def wait(self, key: Hashable, now: float) -> float:
        """For how many s the next attempt must wait; 0: it may be made."""
        times = self._times.get(key)
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + WINDOW_SECONDS - now)

    def count(self, key: Hashable, now: float) -> None:
        """An attempt is made."""
        self._times.setdefault(key, deque(maxlen=self._most)).append(now)
        self._times.move_to_end(key)
        while len(self._times) > self._remembered:
            self._times.popitem(last=False)

    def give_back(self, key: Hashable, at: float) -> None:
        """The attempt of that time was a good one."""
        times = self._times.get(key)
        if times is not None and at in times:
            times.remove(at)
            if not times:
                del self._times[key]


class LoginAttempts:
    """Both limits together. One who fails everywhere is slowed by his address, many who try one user by its name."""

    def __init__(self) -> None:
        self._by_address = Attempts(MOST_BY_ADDRESS)
        self._for_user = Attempts(MOST_FOR_USER)

    def begin(self, address: str, user: str, now: float) -> int:
        """Counts an attempt and returns 0, or returns how many s to wait before the next one."""
        network = network_of(address)
        wait = max(self._by_address.wait(network, now), self._for_user.wait(user, now))
        if wait > 0:
            return math.ceil(wait)
        self._by_address.count(network, now)
        self._for_user.count(user, now)
        return 0

    def succeeded(self, address: str, user: str, at: float) -> None:
        """The attempt that began at `at` was right."""
        self._by_address.give_back(network_of(address), at)
        self._for_user.give_back(user, at)


def network_of(address: str) -> str:
    """What one customer of a provider has: an IPv4 address, or a /64 of IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
