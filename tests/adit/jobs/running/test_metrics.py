"""Metrics match the database, contain no personal data and are restricted."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from lab.jobs import PATIENT, work
from prometheus_client.parser import text_string_to_metric_families

from adit.jobs import queue
from adit.jobs.models import Task
from adit.nodes.models import Node
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)


def scraped(client=None, **headers):
    answer = (client or Client()).get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def test_metrics_count_the_images_bytes_tasks_and_jobs_of_the_database(order_studies):
    order_studies("1", "2", images=3, series=2)
    before = scraped()
    assert before["adit_tasks_waiting", ("reason", "worker")] == 2
    assert before["adit_jobs", ("state", "pending")] == 1
    while work():
        pass
    told = scraped()
    places = (("destination", "Research PACS"), ("source", "PACS1"))
    assert told["adit_instances_total", places[0], ("outcome", "delivered"), places[1]] == 12
    assert told["adit_instances_total", places[0], ("outcome", "failed"), places[1]] == 0
    assert told[("adit_delivered_bytes_total", *places)] > 12 * 500
    assert told["adit_tasks", ("kind", "selective"), ("state", "success")] == 2
    assert told["adit_attempts_total",] == 2
    assert told["adit_tasks_waiting", ("reason", "worker")] == 0
    retrieve = ("lane", "retrieve"), ("node", "PACS1")
    assert told[("adit_node_connections", *retrieve)] == 2
    assert told[("adit_node_connection_seconds", *retrieve)] > 0


def test_metrics_count_waiting_tasks_by_reason(order_studies, source, coordinator):
    order_studies("1")
    Node.objects.filter(pk=source.pk).update(paused_at=timezone.now())
    assert scraped()["adit_tasks_waiting", ("reason", "paused")] == 1
    assert scraped()["adit_node_paused", ("node", "PACS1")] == 1
    Node.objects.filter(pk=source.pk).update(paused_at=None, is_open=False)
    assert scraped()["adit_tasks_waiting", ("reason", "not_open")] == 1
    Node.objects.filter(pk=source.pk).update(is_open=True, retrieve_limit=1)
    order_studies("2")
    assert queue.claim("test") is not None
    assert scraped()["adit_tasks_waiting", ("reason", "connections")] == 1
    Task.objects.filter(state="pending").update(not_before=timezone.now() + timedelta(hours=1))
    told = scraped()
    assert told["adit_tasks_waiting", ("reason", "later")] == 1
    assert told["adit_tasks_waiting", ("reason", "connections")] == 0


def test_metrics_count_lost_leases_and_retries(order_studies):
    order_studies("1")
    task = queue.claim("test")
    Task.objects.update(lease_until=timezone.now() - timedelta(minutes=1))
    queue.sweep()
    told = scraped()
    assert (told["adit_lease_losses_total",], told["adit_retries_total",]) == (1, 0)
    task = queue.claim("test")
    queue.release_task(task, Message("task.database-down"), failed=True)
    told = scraped()
    assert (told["adit_lease_losses_total",], told["adit_retries_total",]) == (1, 1)


def test_metrics_contain_no_patient_user_or_uid(order_studies, coordinator):
    order_studies("1", PatientName="Canary^Bird")
    work()
    told = Client().get("/metrics").content.decode()
    for word in (PATIENT, "Canary", coordinator.username, "1.2.826"):
        assert word not in told


@pytest.mark.parametrize("token", ["", "a long token"])
def test_this_host_reads_the_metrics_directly_without_the_token(settings, coordinator, token):
    settings.METRICS_TOKEN = token
    for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"):
        assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 200, address
    for address in ("192.0.2.7", "10.0.0.1", "::ffff:192.0.2.7", "", "unix:"):
        assert Client(REMOTE_ADDR=address).get("/metrics").status_code == 404, address
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP"):
        assert Client().get("/metrics", headers={name: "127.0.0.1"}).status_code == 404, name


def test_another_host_reads_the_metrics_with_the_token(settings, coordinator):
    settings.METRICS_TOKEN = "a long token"
    other = Client(REMOTE_ADDR="192.0.2.7")
    for shown in ("Bearer x", "Bearer ", "Bearer a long toke"):
        assert other.get("/metrics", headers={"Authorization": shown}).status_code == 404
    shown = {"Authorization": "Bearer a long token", "X-Forwarded-For": "192.0.2.8"}
    assert other.get("/metrics", headers=shown).status_code == 200
