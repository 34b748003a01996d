"""Looks at Ray's nodes again and again: some may have come, and if nobody answers, the head of the cluster is gone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

from gristmill.fleets.ray.placing import Node

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_RAY_ENDS_SECONDS = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAY_ENDS_DEFAULT = 60.0
_OUR_SHARE = 5 / 6  # of that: Ray ends this process without a word, so the word is said before


def patience_seconds() -> float:
    """How long the head may be silent: nearly as long as Ray itself waits, for one that is kept may come back."""
    try:
        rays = float(os.environ.get(_RAY_ENDS_SECONDS, ""))
    except ValueError:
        rays = _RAY_ENDS_DEFAULT
    return rays * _OUR_SHARE


class Lookout:
    """Asks in a thread of its own: a question to a head that is gone is never answered.

    Args:
        look: asks Ray which nodes there are.
        seen: told them, each time that Ray answers; in that thread.
    """

    def __init__(self, look: Callable[[], Sequence[Node]], seen: Callable[[Sequence[Node]], None]) -> None:
        self._look, self._seen = look, seen
        self._over = threading.Event()
        threading.Thread(target=self._run, name="gristmill-ray-lookout", daemon=True).start()

    def close(self) -> None:
        """Look no more. Does not wait."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            try:
                nodes = self._look()
            except Exception:  # whatever Ray says of a lost connection: it is no answer
                _log.debug("Ray was asked for its nodes in vain", exc_info=True)
                continue
            if not self._over.is_set():
                self._seen(nodes)
