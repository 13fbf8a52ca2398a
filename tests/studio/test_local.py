"""Who may ask an app on this machine for what."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from groundup.studio.local import local_app

OWN = "http://127.0.0.1:8765"


def app(host: str) -> FastAPI:
    made = local_app(host)

    @made.get("/")
    def _read() -> str:
        return "read"

    @made.post("/")
    def _write(value: dict[str, int]) -> dict[str, int]:
        return value

    return made


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": OWN}, 200),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),  # an older browser
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),  # another program's page
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_only_its_own_page_changes_anything(headers: dict[str, str], status: int) -> None:
    client = TestClient(app("127.0.0.1"), base_url=OWN)
    assert client.post("/", json={"a": 1}, headers=headers).status_code == status
    assert client.get("/", headers=headers).status_code == 200


def test_a_body_without_type_is_no_json() -> None:
    """A page of another site can send one without asking first."""
    reply = TestClient(app("127.0.0.1"), base_url=OWN).post("/", content='{"a": 1}')
    assert reply.status_code == 422


LOCAL = ["127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765"]
OTHER = ["evil.example", "evil.example:8765", "192.168.1.9", "", "[::1", "127.0.0.1.evil.example"]


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "localhost:1"),
        ("::1", "[::1]:8765"),
        ("0:0::1", "[::1]"),
        ("127.0.0.2", "127.0.0.2:8765"),
        ("Workbench.lan", "workbench.lan:8765"),
        ("10.0.0.5", "10.0.0.5:8765"),
    ],
)
def test_it_answers_to_its_own_names_only(host: str, own: str) -> None:
    client = TestClient(app(host), base_url=OWN)
    asked = {name: client.get("/", headers={"Host": name}).status_code for name in [own, *LOCAL, *OTHER]}
    assert asked == dict.fromkeys([own, *LOCAL], 200) | dict.fromkeys(OTHER, 403)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0::0"])
def test_at_every_address_any_name_is_its_own(host: str) -> None:
    client = TestClient(app(host), base_url=OWN)
    for name in ["evil.example", *LOCAL]:
        assert client.get("/", headers={"Host": name}).status_code == 200
