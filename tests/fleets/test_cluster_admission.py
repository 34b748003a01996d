"""Who must see what before work begins: lists of what happens, and the verdicts that follow."""

from __future__ import annotations

from gristmill.errors import FailureReport
from gristmill.fleets.admission import Admission, AdmitJob, AdmitWorker, GiveUpWorker, RefuseWorker, RejectJob

NO = FailureReport("PathNotShared", "/in is not there")


def with_workers(*workers: str) -> Admission:
    admission = Admission()
    for worker in workers:
        assert admission.add_worker(worker) == ([], [AdmitWorker(worker)])
    return admission


def test_without_workers_a_job_is_admitted_at_once() -> None:
    assert Admission().add_job("j") == ([], [AdmitJob("j")])


def test_a_job_waits_for_the_answers_of_all() -> None:
    admission = with_workers("a", "b")
    assert admission.add_job("j") == (["a", "b"], [])
    assert admission.answer("a", "j", None) == []
    assert admission.answer("a", "j", None) == []
    assert admission.answer("b", "j", None) == [AdmitJob("j")]


def test_one_refusal_rejects_the_job_once() -> None:
    admission = with_workers("a", "b")
    admission.add_job("j")
    assert admission.answer("a", "j", NO) == [RejectJob("j", NO)]
    assert admission.answer("b", "j", NO) == []
    assert admission.add_worker("c") == ([], [AdmitWorker("c")])


def test_trouble_of_one_worker_is_no_trouble_of_the_job() -> None:
    full = FailureReport("DiskFull", "no space is left")
    admission = with_workers("a", "b")
    admission.add_job("j")
    assert admission.answer("a", "j", full) == [RefuseWorker("a", "no space is left")]
    assert admission.drop_worker("a") == []
    assert admission.answer("b", "j", full) == [RejectJob("j", full)]  # there is nobody else


def test_a_job_that_goes_on_was_admitted_before_and_its_worker_is_refused_instead() -> None:
    admission = with_workers("a", "b")
    assert admission.add_job("j", known=True) == (["a", "b"], [])
    assert admission.answer("a", "j", None) == []
    assert admission.answer("b", "j", NO) == [RefuseWorker("b", NO.message)]
    assert admission.drop_worker("b") == [AdmitJob("j")]
    assert admission.add_worker("b2") == (["j"], [])


def test_a_worker_that_goes_away_is_not_waited_for() -> None:
    admission = with_workers("a", "b")
    admission.add_job("j")
    admission.answer("a", "j", None)
    assert admission.drop_worker("b") == [AdmitJob("j")]


def test_when_all_go_away_the_job_is_admitted() -> None:
    admission = with_workers("a")
    admission.add_job("j")
    assert admission.drop_worker("a") == [AdmitJob("j")]


def test_a_silent_worker_is_given_up() -> None:
    admission = with_workers("a", "b")
    admission.add_job("j")
    admission.answer("a", "j", None)
    assert admission.time_out_job("j") == [GiveUpWorker("b")]
    assert admission.drop_worker("b") == [AdmitJob("j")]
    assert admission.time_out_job("j") == []


def test_a_late_worker_is_asked_about_every_job_first() -> None:
    admission = with_workers("a")
    admission.add_job("j1")
    admission.answer("a", "j1", None)
    admission.add_job("j2")
    assert admission.add_worker("late") == (["j1", "j2"], [])
    assert admission.answer("late", "j1", None) == []
    assert admission.time_out_worker("late") == [GiveUpWorker("late")]
    assert admission.answer("late", "j2", None) == [AdmitWorker("late")]
    assert admission.time_out_worker("late") == []
    assert admission.answer("a", "j2", None) == [AdmitJob("j2")]


def test_a_late_worker_that_does_not_see_a_job_is_refused_and_the_job_goes_on() -> None:
    admission = Admission()
    admission.add_job("j")
    admission.add_worker("late")
    assert admission.answer("late", "j", NO) == [RefuseWorker("late", NO.message)]
    assert admission.drop_worker("late") == []


def test_a_job_that_comes_meanwhile_is_asked_about_too() -> None:
    admission = Admission()
    admission.add_job("j1")
    admission.add_worker("late")
    assert admission.add_job("j2") == (["late"], [AdmitJob("j2")])
    assert admission.answer("late", "j1", None) == []
    assert admission.answer("late", "j2", None) == [AdmitWorker("late")]


def test_the_end_of_a_job_is_an_answer() -> None:
    admission = Admission()
    admission.add_job("j")
    admission.add_worker("late")
    assert admission.drop_job("j") == [AdmitWorker("late")]
    admission.add_job("k")
    admission.add_worker("later")
    assert admission.answer("late", "k", NO) == [RejectJob("k", NO), AdmitWorker("later")]


def test_a_patient_job_waits_for_the_first_worker_to_see_its_files() -> None:
    admission = Admission(patient=True)
    assert admission.add_job("j") == ([], [])
    assert admission.add_job("k") == ([], [])
    assert admission.add_worker("a") == (["j", "k"], [])
    assert admission.answer("a", "j", None) == []
    assert admission.answer("a", "k", None) == [AdmitWorker("a"), AdmitJob("j"), AdmitJob("k")]
    assert admission.add_job("l") == (["a"], []), "from now on it is asked who is there"
    assert admission.answer("a", "l", NO) == [RejectJob("l", NO)]


def test_a_patient_job_is_rejected_by_the_first_worker_that_does_not_see_its_files() -> None:
    admission = Admission(patient=True)
    admission.add_job("j")
    assert admission.add_worker("a") == (["j"], [])
    assert admission.add_worker("b") == (["j"], [])
    assert admission.answer("b", "j", NO) == [RejectJob("j", NO), AdmitWorker("a"), AdmitWorker("b")]
    assert admission.add_worker("c") == ([], [AdmitWorker("c")])


def test_trouble_of_the_first_worker_is_no_trouble_of_a_patient_job() -> None:
    full = FailureReport("DiskFull", "no space is left")
    admission = Admission(patient=True)
    admission.add_job("j")
    admission.add_worker("a")
    assert admission.answer("a", "j", full) == [RefuseWorker("a", full.message)]
    assert admission.add_worker("b") == (["j"], [])
    assert admission.answer("b", "j", None) == [AdmitWorker("b"), AdmitJob("j")]


def test_a_patient_job_whose_workers_are_all_gone_waits_for_the_next() -> None:
    admission = Admission(patient=True)
    admission.add_worker("a")
    assert admission.add_job("j") == (["a"], [])
    assert admission.drop_worker("a") == []
    assert admission.add_worker("b") == (["j"], [])
    assert admission.answer("b", "j", NO) == [RejectJob("j", NO), AdmitWorker("b")]
