"""Scripts have so many places at a time, and what loads the code of jobs has places of its own."""

from __future__ import annotations

import time
from pathlib import Path

import cloudpickle
import httpx

from gristmill.api.messages import SUBMISSION_TYPE, VERSION_HEADERS, SubmitRequest
from gristmill.api.prepare import Submission
from gristmill.config import JobOptions
from gristmill.plan.cut import cut
from gristmill.plan.logical import Read
from gristmill.plan.stages import InputSpec, RowsSink
from gristmill.runtime.files.blobs import digest_of
from gristmill.scheduling.queueing import QueueLimits
from gristmill.service.drivers import loader_name
from gristmill.service.server import Server, ServeSettings

SECONDS = 60.0
CODE = b"def mapper(_, line):\n    yield line, 1\n"


def test_code_is_loaded_while_as_many_scripts_run_as_can(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    made = cut(Read(InputSpec(made=1), list, name="driver"), RowsSink())
    script = bytes(cloudpickle.dumps(made.code))
    driver = Submission(
        name="script.py", code=b"", plan=made.plan, inputs=made.inputs, output=None, options=JobOptions(),
        origins=made.origins, driver=True,
    )  # fmt: skip
    wanted = SubmitRequest(driver, digest_of(script)).to_json()
    # No worker is here: what runs stays.
    limits = QueueLimits(scripts=2)
    with Server(ServeSettings(port=0, data_dir=tmp_path / "data", executors=0, limits=limits)) as server:
        headers = {"Authorization": f"Bearer {server.token_file.read_text().strip()}"}
        with httpx.Client(base_url=f"{server.url}/api/v1", headers=headers, timeout=SECONDS) as client:
            client.put(f"/blobs/{digest_of(script)}", content=script)
            states = []
            for _ in range(3):
                ours = {"Content-Type": SUBMISSION_TYPE, **dict(VERSION_HEADERS)}
                job = client.post("/jobs", json=wanted, headers=ours).json()["id"]
                states.append(client.get(f"/jobs/{job}").json()["state"])
            assert states == ["running", "running", "queued"]
            fields = {"inputs": str(tmp_path / "in.txt"), "output": str(tmp_path / "out")}
            job = client.post("/jobs", files={"code": ("job.py", CODE)}, data=fields).json()["id"]
            give_up = time.monotonic() + SECONDS
            while loader_name(job) not in {known.name for known in server.coordinator.jobs()}:
                assert time.monotonic() < give_up, "its code is not being loaded"
                time.sleep(0.02)
