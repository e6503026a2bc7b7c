"""The plain endpoints, as tutorials ask them with curl: texts, a batch in order, a measure, health, figures, documents;
and one shape for all that is wrong.
"""

from __future__ import annotations

import json
import math
import subprocess

import httpx
import pytest
from serving import Server, is_fault

PROMPT = "THE FOX:\n"


def test_a_text_comes_with_what_was_done_for_it(server: Server):
    body = server.ask("/generate", prompt=PROMPT, max_new_tokens=20, seed=3, temperature=0.7, top_k=5).json()
    assert len(body["generated_text"]) == body["new_tokens"] == 20
    assert (body["prompt"], body["prompt_tokens"], body["seed"]) == (PROMPT, len(PROMPT), 3)
    assert (body["model"], body["finish_reason"], body["left_out"]) == ("tiny", "length", "")
    same = server.ask(
        "/generate", prompt=PROMPT, max_length=20, seed=3, temperature=0.7, top_k=5, return_full_text=True
    )
    assert same.json()["generated_text"] == PROMPT + body["generated_text"]  # both mean the number of new tokens
    drawn = server.ask("/generate", prompt=PROMPT + "é", max_new_tokens=8).json()
    again = server.ask("/generate", prompt=PROMPT + "é", max_new_tokens=8, seed=drawn["seed"]).json()
    assert drawn["generated_text"] == again["generated_text"]
    assert (drawn["left_out"], drawn["prompt"]) == ("é", PROMPT)


def test_a_batch_answers_in_the_order_of_its_prompts_each_as_alone(server: Server):
    prompts = ["the river", PROMPT, "", "I go"]
    results = server.ask("/generate/batch", prompts=prompts, max_new_tokens=12, seed=8).json()["results"]
    alone = [server.ask("/generate", prompt=prompt, max_new_tokens=12, seed=8).json() for prompt in prompts]
    assert [each["generated_text"] for each in results] == [each["generated_text"] for each in alone]
    assert [each["prompt"] for each in results] == prompts


def test_curl_as_in_the_tutorials_works(server: Server):
    data = json.dumps({"prompt": PROMPT, "temperature": 0, "max_new_tokens": 10})
    command = ["curl", "-sS", "-X", "POST", f"{server.url}/generate_text", "-H", "Content-Type: application/json", "-d"]
    out = subprocess.run([*command, data], capture_output=True, text=True, check=True).stdout
    body = json.loads(out)
    assert body.keys() == {"generated_text"}
    whole = server.ask("/generate", prompt=PROMPT, temperature=0, max_new_tokens=10).json()
    assert body["generated_text"] == whole["generated_text"]


def test_a_text_is_measured_as_the_engine_measures_it(server: Server, tiny_model):
    from engine.checkpoints import load_model
    from engine.evaluation import score

    text = "The fox went to the river. " * 6
    body = server.ask("/evaluate", text=text).json()
    expected = score(load_model("tiny", "cpu", "fp32"), text)
    assert body["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert body["perplexity"] == pytest.approx(math.exp(body["loss"]))
    assert (body["tokens"], body["split"]) == (len(text) - 1, None)


def test_a_split_of_the_models_own_text_is_measured_where_it_is_at_hand(server: Server, reader):
    from tiny_models import TINY_TEXT

    from engine.checkpoints import load_model
    from engine.evaluation import evaluate
    from engine.text.corpus import encode_documents, split_documents

    body = server.ask("/evaluate", model="reader", split="val").json()
    model = load_model("reader", "cpu", "fp32")
    documents = split_documents((TINY_TEXT,))[1]
    expected = evaluate(model.gpt, model.tokenizer, encode_documents(model.tokenizer, documents))
    assert (body["loss"], body["tokens"]) == (pytest.approx(expected.loss), expected.tokens)
    assert server.ask("/evaluate", model="reader", split="val").json() == body
    gone = server.ask("/evaluate", model="tiny", split="val")
    assert is_fault(gone, 422, param="split")
    assert "is not here (tiny text)" in gone.json()["error"]["message"]
    assert "--data" not in gone.text  # which is advice for the command line


def test_health_and_the_figures_of_both_processes_are_told(server: Server):
    from prometheus_client.parser import text_string_to_metric_families

    assert server.ask("/health").json() == {
        "status": "ok", "engine": "ready", "running": 0, "waiting": 0, "version": "0.1.0",
    }  # fmt: skip
    before = server.ask("/metrics")
    server.ask("/generate", prompt=PROMPT, max_new_tokens=7)
    after = server.ask("/metrics")
    assert after.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    def figure(page: httpx.Response, name: str, **labels: str) -> float:
        samples = [one for family in text_string_to_metric_families(page.text) for one in family.samples]
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def more(name: str, **labels: str) -> float:
        return figure(after, name, **labels) - figure(before, name, **labels)

    assert more("minigpt_new_tokens_total", model="tiny") == 7
    assert more("minigpt_prompt_tokens_total", model="tiny") == len(PROMPT)
    assert more("minigpt_requests_total", endpoint="/generate", status="200") == 1
    assert more("minigpt_request_seconds_count", endpoint="/generate") == 1
    assert figure(after, "minigpt_engine_up") == 1
    assert figure(after, "minigpt_engine_process_resident_memory_bytes") == pytest.approx(
        server.engine.memory_info().rss, rel=0.2
    )
    assert figure(after, "process_resident_memory_bytes") > 1e7


def test_the_api_describes_itself(server: Server):
    assert "swagger" in server.ask("/docs").text
    assert "redoc" in server.ask("/redoc").text
    paths = server.ask("/openapi.json").json()["paths"]
    assert {"/v1/completions", "/v1/chat/completions", "/generate", "/evaluate", "/health", "/metrics"} <= paths.keys()


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/generate", {"max_length": 5}, "prompt"),
        ("/generate", {"prompt": 5}, "prompt"),
        ("/generate", {"prompt": "a", "max_length": 5, "max_new_tokens": 6}, "max_length"),
        ("/generate", {"prompt": "a", "top_p": 0}, "top_p"),
        ("/generate", {"promt": "a"}, "promt"),
        ("/generate/batch", {"prompts": []}, "prompts"),
        ("/generate/batch", {"prompts": ["a", None]}, "prompts[1]"),
        ("/generate/batch", {"prompts": ["a"] * 17}, "prompts"),
        ("/generate_text", {"prompt": "a", "top_k": 3}, "top_k"),
        ("/evaluate", {"text": "a"}, "text"),
        ("/evaluate", {"text": "abc", "split": "val"}, "text"),
        ("/evaluate", {"split": "dev"}, "split"),
        (
            "/v1/completions",
            {"stream_options": {"include_usages": True}, "stream": True},
            "stream_options.include_usages",
        ),
    ],
)
def test_what_is_wrong_with_a_request_is_named_in_one_shape(server: Server, path, fields, param):
    assert is_fault(server.ask(path, **fields), 422, param=param, type="invalid_request_error")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b'{"prompt": ', 422),
        (b'["a"]', 422),
        (b'{"prompt": "\\ud800"}', 422),
        (b'{"prompt": "a", "temperature": NaN}', 422),
        (b'{"prompt": "a", "seed": ' + b"9" * 6000 + b"}", 422),
        (b"[" * 100_000, 422),
        (b"\xff\xfe\xfd", 422),
    ],
)
def test_what_is_no_request_is_refused_in_the_same_shape(server: Server, content: bytes, status: int):
    headers = {"Content-Type": "application/json"}
    assert is_fault(httpx.post(f"{server.url}/generate", content=content, headers=headers), status)


def test_what_is_not_there_is_told_and_a_page_cannot_ask_without_saying_that_it_sends_json(server: Server):
    assert is_fault(server.ask("/nothing"), 404, code="not_found")
    assert is_fault(httpx.get(f"{server.url}/generate"), 405, code="wrong_method")
    assert is_fault(server.ask("/generate", prompt="a", model="gpt-5"), 404, param="model", code="model_not_found")
    hidden = httpx.post(f"{server.url}/generate", content=b'{"prompt": "a"}', headers={"Content-Type": "text/plain"})
    assert is_fault(hidden, 422)
    assert is_fault(httpx.get(f"{server.url}/health", headers={"Host": "evil.example"}), 403, code="wrong_host")
    assert (
        "access-control-allow-origin" not in httpx.get(f"{server.url}/health", headers={"Origin": "http://a.b"}).headers
    )
