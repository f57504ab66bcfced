"""Durable work as the settings have it: refused before anything is opened when it could not work."""

import base64
from pathlib import Path

import pytest

from foretell.assemble import Service
from foretell.errors import Setup
from foretell.repository import Repository
from foretell.settings import JobSettings, Settings
from foretell.workers.durable import open_jobs, worker_name

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


def opened(**settings: str) -> object:
    service = Service(Settings(jobs=JobSettings(**settings)))  # type: ignore[arg-type]  # they are all texts here
    jobs = open_jobs(service.settings, service.http, service.catalog, Repository([]))
    if jobs is not None:
        jobs.ledger.close()
    return jobs


def test_without_a_place_for_them_there_are_no_jobs() -> None:
    assert opened() is None


def test_with_a_folder_there_are(tmp_path: Path) -> None:
    assert opened(state_folder=str(tmp_path / "new")) is not None
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"webhook_hosts": "hooks.example.com"}, "FORETELL_JOBS_WEBHOOK_SECRET"),
        ({"webhook_hosts": "hooks.example.com", "webhook_secret": "short"}, "openssl rand"),
        ({"webhook_hosts": "a b", "webhook_secret": SECRET}, "HOST:PORT"),
        ({"paths": "/nosuch/folder"}, "mkdir -p /nosuch/folder"),
        ({"paths": "s3:///"}, "s3://BUCKET/PREFIX/"),
        ({"paths": "s3://bucket/../other"}, "s3://BUCKET/PREFIX/"),
        ({"database": "redis://127.0.0.1/0"}, "both set"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(Setup, match="jobs") as refused:
        opened(state_folder=str(tmp_path / "state"), **settings)
    assert says in refused.value.message
    assert refused.value.code == "wrong_setting"
    assert not (tmp_path / "state").exists()


def test_a_database_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(Setup):
        opened(database="mysql://127.0.0.1/jobs")


def test_no_two_workers_have_one_name() -> None:
    assert len({worker_name() for _ in range(100)}) == 100
