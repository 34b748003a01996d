"""Others are told once, later if they do not answer, and never in the way of a job; and what is written to whom."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from operations_kit import Heard, mail_server, web_server

from gristmill.api.places import roots_of
from gristmill.cli.main import main
from gristmill.errors import JobFailed, UsageError
from gristmill.runtime.journal.facts import Fact, JobAccepted, JobBegun, JobEnded, JobLate, JobTakenUp
from gristmill.runtime.journal.forgetting import KeepHistory
from gristmill.runtime.journal.journal import JOURNAL, Journal
from gristmill.runtime.journal.outbox import Message, pending
from gristmill.runtime.outcome import Outcome
from gristmill.runtime.views import JobView
from gristmill.scheduling.commands import JobState
from gristmill.service.looking.history import Histories
from gristmill.service.operations import HistoryKeeper, OperationSettings
from gristmill.service.telling.lineage import LineageChannel, dataset, run_event
from gristmill.service.telling.notices import Mail, MailChannel, Notices, Webhook, WebhookChannel, post_json
from gristmill.service.telling.telling import NeverTold, NotToldYet, Tellers

ACCEPTED = JobAccepted("j", "Job", 1.0, "", "boot", ((),), {"spec": {}, "plan": []}, user="ann", deadline_seconds=60.0)


def ended(job: str, state: JobState, at: float = 0.0) -> JobEnded:
    error = None if state is JobState.SUCCEEDED else JobFailed("no: it failed")
    return JobEnded(job, at or time.time(), Outcome(JobView(job, "Job", state, 1.0, ()), error))


def write(journal: Journal, *facts: Fact) -> None:
    for fact in facts:
        number = journal.add(fact)
    journal.durable(number)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / JOURNAL)
    yield journal
    journal.close()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def url(heard: Heard) -> Iterator[str]:
    with web_server(heard) as url:
        yield url


def tellers(journal: Journal, url: str) -> Tellers:
    channel = WebhookChannel(Webhook.parse(f"{url}/hook"), Notices(journal, "http://mill"))
    found = Tellers(journal, [channel], first_retry_seconds=0.01)
    journal.open()
    found.start()
    return found


def wait_until_told(journal: Journal) -> None:
    give_up = time.monotonic() + 60
    while pending(journal.path, "webhook"):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_what_does_not_answer_is_tried_again_and_told_once(journal: Journal, heard: Heard, url: str) -> None:
    heard.answers[:] = [500, 503, 429]
    telling = tellers(journal, url)
    write(journal, ACCEPTED, JobLate("j", time.time()), ended("j", JobState.FAILED))
    heard.wait(calls=5)
    wait_until_told(journal)
    telling.close()
    bodies = heard.bodies("/hook")
    assert [body["type"] for body in bodies] == ["job.late"] * 4 + ["job.failed"]
    assert len({body["id"] for body in bodies}) == 2  # whoever heard it twice can tell
    assert bodies[0]["job"]["deadline_seconds"] == 60.0 and bodies[0]["job"]["error"] is None
    assert "webhook-signature" not in {name.lower() for name in heard.calls[0].headers}


@pytest.mark.parametrize("status", [503, 404, 0])
def test_a_webhooks_url_comes_into_no_log(
    journal: Journal, heard: Heard, url: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Who knows it may post: it is a secret, as a rule."""
    heard.answers[:] = [status]
    there = f"{url.replace('//', '//me:key@', 1)}/T0/secret?key=1" if status else "http://127.0.0.1:1/T0/secret"
    webhook = Webhook.parse(there)
    with pytest.raises((NotToldYet, NeverTold)) as told:
        post_json(there, b"{}", {})
    host = there.partition("//")[2].partition("/")[0].rpartition("@")[2]
    assert f"http://{host} " in str(told.value)
    for text in (str(told.value), repr(webhook)):
        assert not any(part in text for part in ("secret", "T0", "key"))


@pytest.mark.parametrize("status", [400, 404, 302])
def test_what_is_refused_is_told_no_more_and_leads_nowhere_else(
    journal: Journal, heard: Heard, url: str, status: int
) -> None:
    heard.answers[:] = [status]
    telling = tellers(journal, url)
    write(journal, ACCEPTED, ended("j", JobState.FAILED))
    write(journal, replace(ACCEPTED, job="k"), ended("k", JobState.FAILED))
    heard.wait(calls=2)
    wait_until_told(journal)
    telling.close()
    assert [body["job"]["id"] for body in heard.bodies("/hook")] == ["j", "k"]
    assert heard.bodies("/elsewhere") == []


def test_only_failures_and_late_jobs_of_people_are_told(journal: Journal, heard: Heard, url: str) -> None:
    telling = tellers(journal, url)
    write(journal, ACCEPTED, ended("j", JobState.SUCCEEDED))
    write(journal, replace(ACCEPTED, job="c"), ended("c", JobState.CANCELLED))
    session = replace(ACCEPTED, job="s", prepared={"spec": {"session": "x"}, "plan": []})
    write(journal, session, ended("s", JobState.FAILED))
    write(journal, replace(ACCEPTED, job="f"), ended("f", JobState.FAILED))
    heard.wait(calls=1)
    wait_until_told(journal)
    telling.close()
    assert [body["job"]["id"] for body in heard.bodies("/hook")] == ["f"]


def test_the_next_server_tells_what_this_one_could_not(journal: Journal, heard: Heard, url: str) -> None:
    heard.answers[:] = [500] * 2
    telling = tellers(journal, url)
    write(journal, ACCEPTED, ended("j", JobState.FAILED))
    heard.wait(calls=2)
    heard.answers[:] = [500] * 1000
    telling.close()
    journal.close()
    heard.calls.clear()
    heard.answers.clear()
    again = Journal(journal.path)
    telling = tellers(again, url)
    heard.wait(calls=1)
    wait_until_told(again)
    telling.close()
    again.close()
    assert [body["job"]["id"] for body in heard.bodies("/hook")] == ["j"]


def test_what_is_a_day_old_is_given_up(journal: Journal, heard: Heard, url: str) -> None:
    telling = tellers(journal, url)
    write(journal, ACCEPTED, ended("j", JobState.FAILED, at=time.time() - 90_000))
    wait_until_told(journal)
    telling.close()
    assert heard.calls == []


def test_nobody_who_listens_keeps_facts_from_being_written(journal: Journal) -> None:
    telling = tellers(journal, "http://127.0.0.1:1")
    began = time.monotonic()
    for number in range(200):
        write(journal, replace(ACCEPTED, job=f"j{number}"), ended(f"j{number}", JobState.FAILED))
    assert time.monotonic() - began < 60
    telling.close()
    assert len(pending(journal.path, "webhook", limit=1000)) == 200


def test_a_mail_that_is_late_says_so_and_no_name_makes_a_header(journal: Journal, heard: Heard) -> None:
    with mail_server(heard) as smtp:
        mail = Mail.parse(smtp, "", "mill@example.org", ("ann@example.org",))
        telling = Tellers(journal, [MailChannel(mail, Notices(journal, "http://mill"))])
        journal.open()
        telling.start()
        write(journal, replace(ACCEPTED, name="a\nBcc: eve@example.org"), JobLate("j", time.time()))
        heard.wait(mails=1)
        telling.close()
    (text,) = heard.mails
    assert text["Subject"] == "[Gristmill] a Bcc: eve@example.org has outlived its deadline (j)"
    assert text["Bcc"] is None and text["X-Recipients"] == "ann@example.org"
    assert "was to be over 1m 00s after it was submitted" in text.get_content()


def test_a_password_is_not_sent_in_the_clear(journal: Journal, heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    with mail_server(heard) as smtp:
        mail = Mail.parse(smtp.replace("//", "//ann@"), "secret", "mill@example.org", ("ann@example.org",))
        telling = Tellers(journal, [MailChannel(mail, Notices(journal, "http://mill"))], first_retry_seconds=0.01)
        journal.open()
        telling.start()
        write(journal, ACCEPTED, ended("j", JobState.FAILED))
        give_up = time.monotonic() + 60
        while caplog.text.count("tried again") < 2:  # it was tried, and again
            assert time.monotonic() < give_up
            time.sleep(0.01)
        telling.close()
    assert heard.mails == [] and len(pending(journal.path, "mail")) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--webhook", "nowhere"], "name a URL"),
        (["--webhook-secret-file", "x"], "--webhook"),
        (["--smtp-url", "http://x", "--mail-to", "a", "--mail-from", "b"], "smtp://"),
        (["--smtp-url", "smtp://a:secret@x", "--mail-to", "a", "--mail-from", "b"], "--smtp-password-file"),
        (["--smtp-url", "smtp://a@x", "--mail-to", "a", "--mail-from", "b"], "password"),
        (["--smtp-url", "smtp://x"], "--mail-to"),
        (["--mail-to", "a"], "--smtp-url"),
        (["--webhook", "http://x", "--webhook-secret-file", "/nowhere/secret"], "cannot be read"),
        (["--openlineage", "nowhere"], "--openlineage"),
        (["--openlineage", "ftp://a:hidden@x/?key=hidden"], "--openlineage"),
        (["--openlineage", "https://a:hid/den@x/"], "--openlineage"),
        (["--webhook", "https://[hidden/x"], "--webhook"),
        (["--webhook", "https://a:hidden"], "--webhook"),
        (["--smtp-url", "http://a:hidden@x", "--mail-to", "a", "--mail-from", "b"], "smtp://"),
        (["--smtp-url", "smtp://a:hid/den@x", "--mail-to", "a", "--mail-from", "b"], "smtp://"),
        (["--keep-history", "long"], "long"),
        (["--openlineage-token-file", "x"], "--openlineage"),
        (["--openlineage", "https://a:hidden@x", "--openlineage-token-file", __file__], "give one of them"),
        (["--public-url", "mill"], "--public-url"),
        (["--public-url", "https://a:hidden@mill"], "--public-url"),
        (["--public-url", "https://mill/?token=hidden"], "--public-url"),
        (["--public-url", "https://[hidden"], "--public-url"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", "--executors", "0", "--data-dir", str(tmp_path), *options]) == 2
    said = capsys.readouterr().err
    assert words in said and "hid" not in said


def test_secrets_are_not_shown() -> None:
    settings = OperationSettings(
        webhook=Webhook.parse("http://x/hidden", "hidden"),
        mail=Mail.parse("smtp://a@x", "hidden", "b", ("c",)),
        openlineage="http://a:hidden@x",
    )
    assert "hidden" not in repr(settings)
    with pytest.raises(UsageError, match="base64"):
        Webhook.parse("http://x", "whsec_!")


def test_datasets_are_named_as_openlineage_names_them() -> None:
    assert dataset("/data/x.txt") == {"namespace": "file", "name": "/data/x.txt"}
    assert dataset("file:///data/x.txt") == {"namespace": "file", "name": "/data/x.txt"}
    assert dataset("s3://bucket/a/b") == {"namespace": "s3://bucket", "name": "a/b"}
    assert dataset("s3://key:se/cret@bucket/a/b?region=x") == {"namespace": "s3://bucket", "name": "a/b"}
    assert dataset("abfs://box@account.net/a") == {"namespace": "abfs://box@account.net", "name": "a"}


def test_the_user_of_a_url_logs_in(heard: Heard, url: str) -> None:
    post_json(url.replace("://", "://ann:s%3Acret@") + "/lineage", b"{}", {})
    assert heard.calls[0].headers["Authorization"] == "Basic " + base64.b64encode(b"ann:s:cret").decode()


def test_a_cancelled_run_is_aborted(journal: Journal, heard: Heard, url: str) -> None:
    telling = Tellers(journal, [LineageChannel(f"{url}/lineage", journal)])
    journal.open()
    telling.start()
    write(journal, replace(ACCEPTED, at=time.time()), ended("j", JobState.CANCELLED))
    heard.wait(calls=2)
    telling.close()
    assert [event["eventType"] for event in heard.bodies("/lineage")] == ["START", "ABORT"]


def test_each_try_of_a_job_is_a_run_of_its_own_that_ends_once(journal: Journal, heard: Heard, url: str) -> None:
    """A restart in between is none: the run goes on."""
    channel = LineageChannel(f"{url}/lineage", journal, "key of ours", "team")
    telling = Tellers(journal, [channel])
    journal.open()
    telling.start()
    now = time.time()
    write(journal, replace(ACCEPTED, at=now), JobTakenUp("j", 1, now + 1, "boot"), ended("j", JobState.FAILED, now + 2))
    write(journal, JobTakenUp("j", 2, now + 3, "boot", queued=True), JobBegun("j", now + 4))
    write(journal, JobTakenUp("j", 3, now + 5, "boot"), ended("j", JobState.SUCCEEDED, now + 6))
    heard.wait(calls=4)
    telling.close()
    events = heard.bodies("/lineage")
    runs = [event["run"]["runId"] for event in events]
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "COMPLETE"]
    assert runs[0] == runs[1] != runs[2] == runs[3]
    assert {event["job"]["namespace"] for event in events} == {"team"}
    assert {call.headers["Authorization"] for call in heard.calls} == {"Bearer key of ours"}


def test_globs_and_folders_are_one_dataset_each(journal: Journal) -> None:
    names = [
        "/logs/*/a-?.gz",
        "/logs/2026/",
        "/logs",
        "in.txt",
        "s3://u:p@b/x/*.csv?region=eu",
        "s3://b/*",
        "file:///d/*.gz",
    ]
    assert roots_of(names, "/home/ann") == ("/logs", "/logs/2026", "/home/ann/in.txt", "s3://b/x", "s3://b", "/d")
    assert roots_of(["/*"]) == ("/",) and roots_of(["s3://*"]) == ("s3://*",)
    many = [f"/data/{month}/{day}.gz" for month in range(12) for day in range(30)]
    assert roots_of(many) == tuple(f"/data/{month}" for month in range(12))
    assert roots_of(f"/{n}" for n in range(500)) == ("/",)
    assert len(roots_of(f"s3://bucket{n}" for n in range(500))) == 500, "there is nothing above these"
    prepared = {"spec": {"inputs": [["/old/a", 1], ["/old/b", 1]]}, "plan": []}
    accepted = replace(ACCEPTED, prepared={**prepared, "reads": ["/in", "s3://b/x"]})
    message = Message(1, "openlineage", "START", "j", 1.0)
    journal.open()
    write(journal, accepted)
    summary = journal.summary("j")
    assert summary is not None
    assert run_event(message, summary, accepted)["inputs"] == [
        {"namespace": "file", "name": "/in"}, {"namespace": "s3://b", "name": "x"},
    ]  # fmt: skip
    older = run_event(message, summary, replace(ACCEPTED, prepared=prepared))
    assert [one["name"] for one in older["inputs"]] == ["/old/a", "/old/b"]


def test_old_jobs_are_forgotten_with_their_folders(journal: Journal, tmp_path: Path) -> None:
    for job, at in (("old", 10.0), ("new", time.time())):
        write(journal, replace(ACCEPTED, job=job), ended(job, JobState.FAILED, at))
        (tmp_path / "jobs" / job / "logs").mkdir(parents=True)
    histories, gone = Histories(journal), []
    assert histories.of("old") is not None
    keeper = HistoryKeeper(journal, KeepHistory(), tmp_path, histories, gone=gone.extend)
    assert keeper.forget() == ["old"] == gone
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["new"]
    assert histories.of("old") is None and histories.of("new") is not None


def test_what_meets_a_defect_again_and_again_is_given_up_and_the_rest_is_told(journal: Journal) -> None:
    told: list[str] = []

    class Broken:
        name = "broken"

        def kinds(self, fact: Fact) -> list[str]:
            return ["ended"] if isinstance(fact, JobEnded) else []

        def tell(self, message: Message) -> None:
            if message.job == "j":
                raise ValueError("a defect")
            told.append(message.job)

    journal.open()
    telling = Tellers(journal, [Broken()], first_retry_seconds=0.01)
    telling.start()
    write(journal, ACCEPTED, ended("j", JobState.FAILED), ended("k", JobState.FAILED))
    give_up = time.monotonic() + 60
    while pending(journal.path, "broken"):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    telling.close()
    assert told == ["k"]


def test_a_mail_takes_any_text(journal: Journal, heard: Heard) -> None:
    with mail_server(heard) as smtp:
        mail = Mail.parse(smtp, "", "mill@example.org", ("ann@example.org",))
        journal.open()
        telling = Tellers(journal, [MailChannel(mail, Notices(journal, "http://mill"))])
        telling.start()
        write(journal, replace(ACCEPTED, name="\ud800"), ended("j", JobState.FAILED))
        heard.wait(mails=1)
        telling.close()
