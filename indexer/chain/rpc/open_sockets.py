"""The sockets of a session, so that requests under way can be ended: nothing else wakes a thread that reads one."""

import contextlib
import socket
import threading
import weakref
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class OpenSockets:
    """All sockets that connections have opened, and that are not closed yet. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_shut_down = False

    def add(self, opened: Any) -> None:
        """Notes one; shuts it down where all others were before."""
        if isinstance(opened, socket.socket):
            with self._lock:
                self._sockets.add(opened)
                if self._is_shut_down:
                    _shut_down(opened)

    def shut_down(self) -> None:
        """Has whatever reads or writes them, or others to come, fail at once."""
        with self._lock:
            self._is_shut_down = True
            for one in self._sockets:
                _shut_down(one)


def _shut_down(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(one, socket.SHUT_RDWR)  # of TLS, too, without a word to the other side


class Adapter(HTTPAdapter):
    """requests' adapter, which notes the sockets that are opened.

    Args:
        sockets: where.
        more: as of requests' own.
    """

    def __init__(self, sockets: OpenSockets, **more: Any) -> None:
        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__(**more)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """As requests' own."""
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> urllib3.ProxyManager:
        """As requests' own."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager
