"""Requests to the started app: only its own pages may use it, under its own names, up to a size."""

import http.client
import json
from urllib.parse import urlsplit

import pytest

from hf_multitask.app.request_checks import AllowedHosts
from hf_multitask.app.uploads import MAX_UPLOAD_BYTES
from tests.app.started_app import started_app

UPLOAD = "/gradio_api/upload"
PROXY = "app.example.org"
BOUNDARY = "xyz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("requests") / "out"


@pytest.fixture(scope="module")
def address(folder, app_config):
    """Start the app behind two names, and return its address, such as 127.0.0.1:7860."""
    with started_app(folder, app_config, "--allowed-host", PROXY, "--allowed-host", ".lab.example.org") as url:
        yield urlsplit(url).netloc


@pytest.fixture
def ask(address):
    """Return a function that sends a request to the app and returns the status and the text of the answer."""

    def send(method, path, host=None, origin=None, body=None, headers=None):
        connection = http.client.HTTPConnection(address, timeout=60)
        given = {"Host": host or address, **({} if origin is None else {"Origin": origin}), **(headers or {})}
        connection.request(method, path, body=body, headers=given)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        return answer.status, text

    return send


def form_with_file(content=b"text,intent\nhi,greet\n"):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.csv"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def upload(ask, host=None, origin=None, body=None, **headers):
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return ask("POST", UPLOAD, host, origin, form_with_file() if body is None else body, {**kind, **headers})


def received(folder):
    return sorted(path for path in (folder / "app").rglob("a.csv") if path.is_file())


pytestmark = pytest.mark.app


@pytest.mark.parametrize(
    "host", [None, "localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:7860", PROXY, "a.lab.example.org:8443"]
)
def test_the_app_answers_under_its_names(ask, host):
    status, text = ask("GET", "/", host)
    assert status == 200
    assert "hf-multitask" in text


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:7860",
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        f"evil-{PROXY}",
        f"{PROXY}.evil.com",
        "lab.example.org.evil.com",
        "10.0.0.1",
        "127.0.0.1@evil.com",
        "evil.com#localhost",
        "localhost:",
        "0",
    ],
)
@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info"])
def test_other_names_are_refused(ask, host, path):
    status, text = ask("GET", path, host)
    assert status == 403
    assert f"The app is not reached under the name '{host}'" in text
    assert "--allowed-host" in text


def test_an_upload_from_the_own_page_is_received(ask, address, folder):
    before = len(received(folder))
    assert upload(ask, origin=f"http://{address}")[0] == 200
    # A proxy either passes on its name or puts the app's own in its place.
    assert upload(ask, host=PROXY, origin=f"https://{PROXY}")[0] == 200
    assert upload(ask, origin=f"https://{PROXY}")[0] == 200
    assert upload(ask, host="a.lab.example.org", origin="https://a.lab.example.org:8443")[0] == 200
    assert received(folder)
    assert len(received(folder)) >= before


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "null",
        "http://127.0.0.1:1",
        "http://localhost",
        "https://127.0.0.1",
        "http://127.0.0.1.evil.com",
        "file://",
        "chrome-extension://abc",
        "",
    ],
)
def test_uploads_from_other_pages_are_refused(ask, folder, origin):
    before = received(folder)
    status, text = upload(ask, origin=origin)
    assert status == 403
    assert f"this request comes from '{origin}'" in text
    assert received(folder) == before
    assert ask("GET", "/config", origin=origin)[0] == 403


@pytest.mark.parametrize(
    ("host", "origin"), [("evil.com", "http://evil.com"), (None, "http://evil.com"), ("evil.com", None)]
)
def test_questions_of_a_browser_before_a_request_are_refused_too(ask, host, origin):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    status, text = ask("OPTIONS", UPLOAD, host, origin, headers=asked)
    assert status == 403
    assert "--allowed-host" in text


def test_the_own_page_may_ask_before_a_request(ask, address):
    asked = {"Access-Control-Request-Method": "POST"}
    assert ask("OPTIONS", UPLOAD, origin=f"http://{address}", headers=asked)[0] == 200


def test_an_upload_that_names_no_page_is_refused(ask, folder):
    before = received(folder)
    status, text = upload(ask)
    assert (status, "names no page (Origin)" in text) == (403, True)
    assert received(folder) == before
    body = json.dumps({"data": [], "fn_index": 0, "session_hash": "x"})
    assert ask("POST", "/gradio_api/queue/join", body=body, headers={"Content-Type": "application/json"})[0] == 403


def test_a_request_that_says_it_is_too_large_is_refused_unread(ask, address):
    status, text = upload(ask, origin=f"http://{address}", **{"Content-Length": str(MAX_UPLOAD_BYTES + 2**21)})
    assert (status, "allowed are 201 MiB" in text) == (413, True)


def test_a_request_without_a_length_is_cut_at_the_limit(address, folder):
    before = received(folder)
    connection = http.client.HTTPConnection(address, timeout=120)
    connection.putrequest("POST", UPLOAD)
    connection.putheader("Origin", f"http://{address}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    part = b"x" * 2**20
    answer = None
    try:
        connection.send(_chunk(form_with_file(b"")[: -len(BOUNDARY) - 8]))
        for _ in range(MAX_UPLOAD_BYTES // len(part) + 4):
            connection.send(_chunk(part))
        connection.send(b"0\r\n\r\n")
        answer = connection.getresponse().status
    except OSError:
        pass  # the app has closed the connection
    finally:
        connection.close()
    assert answer in (None, 400, 413)
    assert received(folder) == before


def _chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_the_stream_of_a_page_that_the_server_does_not_know_ends_without_an_error(ask, folder):
    # A page that was open while the server was restarted. The log is read again when the server ends.
    status, text = ask("GET", "/gradio_api/queue/data?session_hash=unknown")
    assert status == 200
    assert '"session_not_found":true' in text
    assert "Traceback" not in (folder.parent / "app.log").read_text()


@pytest.mark.parametrize("name", ["http://app.example.org", "app.example.org:80", "", "a b", "*", "app/x", "."])
def test_allowed_hosts_are_names(name):
    with pytest.raises(ValueError, match="allowed-host: expected a name such as"):
        AllowedHosts.of("127.0.0.1", [name])


def test_on_all_interfaces_any_address_is_allowed_but_no_name():
    hosts = AllowedHosts.of("0.0.0.0", ["Server.lan"])
    assert all(hosts.contains(name) for name in ("192.168.0.7", "::1", "fe80::1", "localhost", "server.lan"))
    assert not hosts.contains("evil.com")
    assert AllowedHosts.of("myserver").contains("myserver")
    assert not AllowedHosts.of("127.0.0.1").contains("192.168.0.7")
