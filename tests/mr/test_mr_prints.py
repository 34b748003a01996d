"""What an app prints is said by ``mr-coordinator``, for it is printed in processes that nobody looks at."""

from __future__ import annotations

from pathlib import Path

import mr_apps as apps
from mr_kit import lab


def test_what_an_app_prints_is_said(tmp_path: Path) -> None:
    with lab(tmp_path) as here:
        here.write("a.txt", "one two")
        here.write("app.py", apps.WC.replace("str(len(values))", "print('counting', key) or str(len(values))"))
        coordinator, worker = here.coordinator(1, "a.txt"), here.worker("app.py")
        assert worker.wait() == coordinator.wait() == 0, here.said()
        assert "mr-coordinator: reduce task 0 printed:\ncounting one\ncounting two\n" in coordinator.said()
        assert here.result(1) == {"one": "1", "two": "1"}
