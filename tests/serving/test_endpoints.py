"""Answers of a running server: those of the pipeline, whatever arrives with them, and refusals of all else."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_multitask import __version__
from tests.comparison import approximately
from tests.serving.http_client import Client, raw_request
from tests.tiny import SENTENCES
from tests.waiting import wait_until

ODD = [
    "🎷 jazz in são paulo, 👨‍👩‍👧 e\u0301te\u0301",
    "東京 の 天気",
    "\u200b",
    "a\x00b",
    "\u202eevil",
    "🇫🇷🇫🇷",
    "'",
    "x" * 3000,
    "\ufeff!",
]
LONG = " ".join(SENTENCES * 4)
TEXTS = [*SENTENCES, *ODD, LONG, "play"]


@pytest.mark.parametrize(
    "inputs",
    [
        SENTENCES[0],
        {"text": "play jazz in paris"},
        {"tokens": ["play", "🎷", "jazz"]},
        {"text": "play  jazz!", "tokens": ["play", "jazz"]},
        {"text": "play jazz", "text_pair": "in the kitchen"},
        LONG,
        *ODD,
    ],
)
def test_an_answer_is_that_of_the_pipeline(client, served_pipeline, inputs):
    assert client.predict(inputs) == approximately(served_pipeline(inputs), rel=1e-5, abs=1e-6)


def test_a_list_has_a_list_of_answers(client, served_pipeline):
    inputs = [*TEXTS, {"tokens": ["new", "york"]}]
    assert client.predict(inputs) == approximately(served_pipeline(inputs), rel=1e-4, abs=1e-5)
    assert client.predict([]) == []


@pytest.mark.parametrize(
    "options",
    [
        {"tasks": ["slots"]},
        {"tasks": ["grade", "intent", "grade"], "top_k": 2},
        {"top_k": 10**30},
        {"threshold": 0.999},
        {"word_labels": True, "tag_scheme": "BIOES"},
        {"tasks": None, "top_k": None},
    ],
)
def test_options_are_those_of_the_pipeline(client, served_pipeline, options):
    expected = served_pipeline(SENTENCES[:3], **options)
    assert client.predict(SENTENCES[:3], **options) == approximately(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("text", [text for text in TEXTS if text != LONG])
def test_offsets_count_code_points_or_utf16_units(client, text):
    by_points, by_units = client.predict(text), client.predict(text, offsets="utf16")
    units = text.encode("utf-16-le")
    pairs = list(zip(by_points["slots"]["entities"], by_units["slots"]["entities"], strict=True))
    for points, entity in pairs:
        assert text[points["start"] : points["end"]] == points["text"] == entity["text"]
        assert units[2 * entity["start"] : 2 * entity["end"]].decode("utf-16-le") == entity["text"]


def test_some_offsets_differ(client):
    """The test above would pass if there were no entity after an emoji."""
    text = ODD[0]
    by_points, by_units = (
        client.predict(text, offsets=kind)["slots"]["entities"] for kind in ("code_points", "utf16")
    )
    assert [entity["end"] for entity in by_points] != [entity["end"] for entity in by_units]


def test_embeddings_are_those_of_the_encoder(client, served_pipeline):
    texts = ["play jazz", "", "🎷"]
    expected = served_pipeline.model.encode(texts, served_pipeline.tokenizer)
    status, vectors = client.post("/embed", {"inputs": texts})
    assert status == 200
    torch.testing.assert_close(torch.tensor(vectors), expected, rtol=1e-4, atol=1e-5)
    assert client.post("/embed", {"inputs": "play jazz"})[1] == pytest.approx(vectors[0], abs=1e-5)
    assert client.post("/embed", {"inputs": "play", "prompt_name": "query"})[0] == 422


def test_requests_that_arrive_together_share_batches_and_change_nothing(server, served_pipeline):
    texts = [text for text in TEXTS for _ in range(8)]
    alone = dict(zip(TEXTS, (served_pipeline(text) for text in TEXTS), strict=True))

    def ask(text):
        with Client(server.port) as client:
            return client.predict(text)

    with Client(server.port) as client:
        before = _metrics(client)
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(ask, texts))
        after = _metrics(client)
    for text, answer in zip(texts, answers, strict=True):
        assert answer == approximately(alone[text], rel=1e-4, abs=1e-5)
    batches = after["hf_multitask_batch_texts_count"] - before["hf_multitask_batch_texts_count"]
    assert after["hf_multitask_batch_texts_sum"] - before["hf_multitask_batch_texts_sum"] == len(texts)
    assert batches < len(texts) / 2


def _metrics(client):
    """Return the values of all metrics by name and labels."""
    lines = client.get("/metrics").decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_metrics_count_requests_and_batches(client):
    before = _metrics(client)
    client.predict("play")
    client.post("/predict", {"inputs": 3})
    client.send("/secret?text=play")
    after = _metrics(client)
    names = (
        '{endpoint="/predict",status="200"}',
        '{endpoint="/predict",status="422"}',
        '{endpoint="other",status="404"}',
    )
    for name in names:
        name = f"hf_multitask_requests_total{name}"
        assert after[name] == before.get(name, 0) + 1
    assert after["hf_multitask_waiting_texts"] == 0
    assert "secret" not in str(after)


def test_facts_of_the_model(client, served_folder):
    facts = json.loads(client.get("/model"))
    assert facts["model"] == served_folder.name
    assert str(served_folder) not in str(facts)
    assert {task["name"]: task["labels"] for task in facts["tasks"]}["intent"] == ["a", "b", "c"]
    assert facts["versions"]["hf_multitask"] == __version__
    assert facts["backend"] == "torch"


def test_the_description_has_the_schemas_of_the_bodies(client):
    description = json.loads(client.get("/openapi.json"))
    schemas = description["components"]["schemas"]
    for path, name in (("/predict", "PredictRequest"), ("/embed", "EmbedRequest")):
        body = description["paths"][path]["post"]["requestBody"]
        assert body["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
        assert "inputs" in schemas[name]["required"]
    assert {"tasks", "top_k", "threshold", "word_labels", "offsets"} <= schemas["PredictRequest"]["properties"].keys()
    assert b"swagger" in client.get("/docs")


def test_health_is_answered_during_a_slow_batch(server):
    def slow():
        with Client(server.port) as client:
            return client.predict([LONG * 8] * 40)

    with ThreadPoolExecutor(1) as pool, Client(server.port) as client:
        running = pool.submit(slow)
        answered = 0
        while not running.done():
            client.get("/health")
            client.get("/ready")
            answered += 1
    assert len(running.result()) == 40
    assert answered > 5


def test_a_request_whose_client_has_gone_is_dropped(server):
    def post(texts):
        body = json.dumps({"inputs": texts}).encode()
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    with Client(server.port) as client, ThreadPoolExecutor(1) as pool:
        before = _metrics(client)
        slow = pool.submit(raw_request, server.port, post([LONG * 8] * 40)[:-1], read=False)  # never complete
        slow.result()
        busy = pool.submit(lambda: Client(server.port).predict([LONG * 8] * 40))
        while _metrics(client)["hf_multitask_batch_texts_sum"] == before["hf_multitask_batch_texts_sum"]:
            raw_request(server.port, post("gone"), read=False)
            if busy.done():
                break
        busy.result()
        # The server may still learn that the last of them has gone.
        wait_until(lambda: _metrics(client)["hf_multitask_waiting_texts"] == 0)
        after = _metrics(client)
        assert after["hf_multitask_waiting_texts"] == 0
    assert after["hf_multitask_dropped_requests_total"] > before["hf_multitask_dropped_requests_total"]
    assert client.predict("play")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("/predict", {"inputs": 3}, "inputs: expected a text, an object with `text` or `tokens`, or a list of them"),
        ("/predict", {"inputs": ["play", 3]}, "inputs.1: expected a text, or an object with `text` or `tokens`"),
        ("/predict", {"inputs": ["play", {"text": 3}]}, "inputs.1.text: Input should be a valid string"),
        ("/predict", {"inputs": ["play", " "]}, "inputs.1: 'text' is empty; expected at least one word."),
        ("/predict", {"inputs": {"tokens": []}}, "inputs: 'tokens' is empty; expected at least one word."),
        ("/predict", {"inputs": {}}, "inputs: expected a column 'tokens' or 'text', found none."),
        ("/predict", {"inputs": {"text": "a", "tokens": ["b"]}}, "word 0 of `tokens`, 'b', does not occur in `text`"),
        ("/predict", {"inputs": {"text": "a", "file": "/etc/passwd"}}, "inputs.file: Extra inputs are not permitted"),
        ("/predict", {"inputs": "a", "model": "other"}, "model: Extra inputs are not permitted"),
        ("/predict", {"inputs": "a", "tasks": ["slot"]}, "Did you mean 'slots'?"),
        ("/predict", {"inputs": "a", "tasks": []}, "tasks is empty"),
        ("/predict", {"inputs": "a", "top_k": 0}, "top_k must be at least 1, found 0."),
        ("/predict", {"inputs": "a", "offsets": "bytes"}, "offsets: Input should be 'code_points' or 'utf16'"),
        ("/predict", {"inputs": "a" * 20_001}, "inputs: expected at most 20000 characters, found 20001."),
        ("/predict", {"inputs": ["a", {"tokens": ["a"] * 10_001}]}, "inputs.1: expected at most 20000 characters"),
        ("/predict", {"inputs": ["a"] * 257}, "inputs: expected at most 256 texts, found 257."),
        ("/predict", {}, "inputs: Field required"),
        ("/embed", {"inputs": {"text": "a"}}, "inputs: expected a text or a list of texts"),
        ("/embed", {"inputs": "a", "tasks": ["slots"]}, "tasks: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_request_is_refused_with_its_reason(client, path, value, message):
    status, answer = client.post(path, value)
    assert status == 422
    assert message in answer["detail"]


def test_one_invalid_request_of_a_batch_does_not_touch_the_others(server):
    def ask(text):
        with Client(server.port) as client:
            return client.post("/predict", {"inputs": text})[0]

    texts = ["play", " "] * 20
    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(ask, texts)) == [200, 422] * 20


def test_bodies_of_other_types_and_sizes_are_refused(client):
    body = json.dumps({"inputs": "play"}).encode()
    for kind in ("text/plain", "", "multipart/form-data"):
        assert client.send("/predict", body, {"Content-Type": kind})[0] == 415
    status, _, content = client.send("/predict", json.dumps({"inputs": ["a"], "x": "a" * 2**20}).encode())
    assert status == 413
    assert b"1,048,576 bytes" in content
    chunks = b"".join(b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(20)) + b"0\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw_request(client.connection.port, head + chunks, closes=False).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("POST", "/model", 405), ("GET", "/../../etc/passwd", 404), ("GET", "/files", 404)],
)
def test_other_paths_and_methods_are_refused(client, method, path, status):
    assert client.send(path, method=method)[0] == status


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ["inputs", "offsets", "tasks", "top_k", "threshold", "word_labels", "tag_scheme", "prompt_name", "text"]
NESTED = [b"[" * 100_000, b'{"inputs":' * 50_000, b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}"]
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([*NESTED, b"", b"null", b'{"inputs": "\\ud800"}', b'{"inputs": 1e999}', b'{"inputs": "a"']),
    JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS[1:]), JSON, max_size=3).map(
        lambda value: json.dumps({"inputs": "play", **value}).encode()
    ),
)


@settings(max_examples=400)
@given(body=BODIES, path=st.sampled_from(["/predict", "/embed"]))
def test_no_body_causes_an_error_of_the_server(server, body, path):
    with Client(server.port) as client:
        status, _, content = client.send(path, body)
    assert status in (200, 422), (status, content)
    assert "detail" in json.loads(content) or status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"inputs": "\\ud83d"}', 422),
        (b'{"inputs": ["play", {"tokens": ["\\udc00"]}]}', 422),
        (b'{"inputs": "\\u0000"}', 200),
        (b'{"inputs": "' + b"x " * 500_000 + b'"}', 422),
        (b'{"inputs": "' + b"x" * 2**20 + b'"}', 413),
        ('{"inputs": "נגן ג׳אז בפריז"}'.encode(), 200),
        (b'{"inputs": "\\u0301\\u0302\\u20dd"}', 200),
        (b'{"inputs": "\\u200b\\u200d\\ufe0f"}', 200),
        (b'{"inputs": "\\u2003\\u00a0\\n"}', 422),
        (b'{"inputs": ""}', 422),
        (b'{"inputs": []}', 200),
        (b'{"inputs": [[]]}', 422),
        (b'{"inputs": [["play"]]}', 422),
        (b'{"inputs": {"tokens": [["play"]]}}', 422),
        (b'{"inputs": {"tokens": ["", " "]}}', 200),
        (b'{"inputs": NaN}', 422),
        (b'{"inputs": "play", "threshold": NaN}', 422),
        (b'{"inputs": "play", "threshold": -Infinity}', 422),
        (b'{"inputs": "play", "threshold": 1e999}', 422),
        (b'{"inputs": "play", "top_k": 1' + b"0" * 4000 + b"}", 200),
        (b'{"inputs": "play", "top_k": 1' + b"0" * 9000 + b"}", 422),
        (b'{"inputs": "play", "top_k": 1.5}', 422),
        (b'{"inputs": "play", "inputs": 3}', 422),
    ],
)
def test_odd_bodies_have_an_answer_or_a_reason(client, body, status):
    found, _, content = client.send("/predict", body)
    assert found == status, content[:300]
    assert status == 200 or json.loads(content)["detail"]
    assert client.send("/embed", body)[0] in (200, 413, 422)


@settings(max_examples=100)
@given(text=st.text(max_size=40))
def test_any_text_has_an_answer_or_is_refused(server, text):
    with Client(server.port) as client:
        status, answer = client.post("/predict", {"inputs": text, "offsets": "utf16", "word_labels": True})
    assert status == (200 if text.strip() and not any("\ud800" <= c <= "\udfff" for c in text) else 422), answer


@pytest.mark.parametrize("content", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00", b"POST /predict HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_refused(server, content):
    assert raw_request(server.port, content)[:12] in (b"", b"HTTP/1.1 400")
    with Client(server.port) as client:
        assert client.get("/health") == b'{"status":"ok"}'
