"""Answers of a hook: JSON and problem documents."""

import json

from bridge.rules.answers import json_response, problem


def test_an_answer_is_json() -> None:
    answer = json_response(202, {"id": "ä", "status": "queued"}, headers={"Retry-After": "5"})
    assert (answer.status, answer.content_type, answer.headers) == (202, "application/json", {"Retry-After": "5"})
    assert json.loads(answer.body) == {"id": "ä", "status": "queued"}
    assert json_response(200, {}).headers == {}


def test_a_problem_is_what_rfc_9457_section_3_says() -> None:
    answer = problem(422, "payload.state is missing", id="cmd_1")
    assert (answer.status, answer.content_type) == (422, "application/problem+json")
    assert json.loads(answer.body) == {"type": "about:blank", "title": "Unprocessable Entity", "status": 422, "detail": "payload.state is missing", "id": "cmd_1"}


def test_a_problem_without_detail_tells_nothing_but_its_status() -> None:
    assert json.loads(problem(401).body) == {"type": "about:blank", "title": "Unauthorized", "status": 401}
    assert problem(429, headers={"Retry-After": "60"}).headers == {"Retry-After": "60"}


def test_a_lone_surrogate_in_an_answer_is_sent_as_a_question_mark() -> None:
    """Header text of a stranger may hold one; the answer still has to go out."""
    assert json.loads(json_response(200, {"id": "\udcff"}).body) == {"id": "?"}
    assert json.loads(problem(400, "\udcff").body)["detail"] == "?"
