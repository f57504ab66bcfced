"""Puts durable work together: a store, who does each kind of jobs, and the doors that take them in."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from foretell.engine.catalog import Catalog
from foretell.errors import Setup
from foretell.jobs.addresses import Hosts
from foretell.jobs.child import ChildWork
from foretell.jobs.desk import Trade
from foretell.jobs.envelope import unpack
from foretell.jobs.job import Job, new_id
from foretell.jobs.ledger import Ledger
from foretell.jobs.limits import Limits
from foretell.jobs.orders import Orders
from foretell.jobs.places import Places
from foretell.jobs.planner import Planner, keep_schedules
from foretell.jobs.schedules import check_places, read_schedules
from foretell.jobs.service import JobService
from foretell.jobs.store import JobStore, open_store
from foretell.jobs.webhooks import KIND, Webhooks, delivery, read_secret
from foretell.modes.http.app import HttpApp
from foretell.modes.http.jobs import FILES, REQUEST, JobDoor
from foretell.modes.http.replay import Replay
from foretell.repository import Repository
from foretell.settings import JobSettings, Settings
from foretell.workers.spawn import python_command

DELIVERIES_AT_ONCE = 4


def open_jobs(settings: Settings, http: HttpApp, catalog: Catalog, repository: Repository) -> JobService | None:
    """The service of jobs, behind the doors of an application; None when the settings name no place for them.

    It has to be started. Raises Setup for a setting that cannot be used, Unavailable for a database that does not answer.
    """
    jobs = settings.jobs
    if not (jobs.state_folder or jobs.database):
        if jobs.schedules:
            raise Setup("wrong_setting", "jobs.schedules needs a place to keep jobs: set jobs.state_folder or jobs.database")
        return None
    if jobs.state_folder and jobs.database:
        raise Setup("wrong_setting", "jobs.state_folder and jobs.database are both set: jobs are kept in one of them")
    hosts, secret = _read_webhooks(jobs)
    orders = Orders(Places.parse(jobs.paths), _finder(catalog), _known(settings, repository))
    store = open_store(jobs.database or jobs.state_folder)
    trades = [
        Trade(REQUEST, Replay(http, jobs.max_stored_bytes), jobs.requests_at_once),
        Trade(FILES, ChildWork(_command(), orders.told), jobs.files_at_once, lasting=True),
        Trade(KIND, Webhooks(hosts, secret, store.get), DELIVERIES_AT_ONCE if hosts.listed else 0),
    ]
    service = JobService(Ledger(store), worker_name(), trades, _limits(jobs), _announce)
    if jobs.schedules:
        service.also.append(partial(keep_schedules, _planner(jobs, store, orders), jobs.poll_s))
    door = JobDoor(service, hosts, orders, jobs.max_stored_bytes, settings.http.compress_above_bytes)
    http.open_jobs(door)
    return service


def worker_name() -> str:
    """A name that no other process has, and that no later one will have."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _planner(jobs: JobSettings, store: JobStore, orders: Orders) -> Planner:
    schedules = read_schedules(Path(jobs.schedules))
    check_places(schedules, orders.places)
    return Planner(schedules, store, lambda order: orders.spec(order, None), _limits(jobs), time.time)


def _read_webhooks(jobs: JobSettings) -> tuple[Hosts, bytes]:
    hosts = Hosts.parse(jobs.webhook_hosts)
    if hosts.listed and not jobs.webhook_secret:
        text = "jobs.webhook_hosts is set, and there is no secret to sign webhooks with: set FORETELL_JOBS_WEBHOOK_SECRET"
        raise Setup("wrong_setting", text)
    return hosts, read_secret(jobs.webhook_secret) if jobs.webhook_secret else b""


def _limits(jobs: JobSettings) -> Limits:
    folder = Path(jobs.state_folder) if jobs.state_folder else None
    return Limits(jobs.waiting, jobs.attempts, jobs.lease_s, jobs.poll_s, jobs.keep_s, folder, jobs.least_free_bytes)


def _finder(catalog: Catalog) -> Callable[[str, str | None], str]:
    return lambda name, version: catalog.find(name, version).version


def _known(settings: Settings, repository: Repository) -> dict[str, Any]:
    """What the process of a job over files has to know of this server."""
    return {
        "paths": [str(Path(path).absolute()) if ":" not in path else path for path in repository.paths],
        "name": repository.name,
        "predict": asdict(settings.predict),
        "log": asdict(settings.log),
    }


def _command() -> Sequence[str]:
    return [*python_command(), "-m", "foretell.workers.beneath"]


def _announce(job: Job) -> Sequence[Job]:
    """The delivery of a webhook, for a job whose owner wants one."""
    url = unpack(job.spec)[0].get("webhook") if job.kind in (REQUEST, FILES) else None
    return [] if url is None else [delivery(job, url, new_id, time.time())]
