"""Access to nodes: the union over groups; clinical nodes require an additional permission."""

import pytest
from django.contrib.auth.models import AnonymousUser

from adit.accounts.permissions import COORDINATORS, DATA_PROTECTION, PACS_ADMINISTRATORS
from adit.nodes.access import may_read, may_write, readable_nodes, writable_nodes


@pytest.fixture
def nodes(make_node):
    return {
        "source": make_node("source", reads=(COORDINATORS,)),
        "research": make_node("research", writes=(COORDINATORS, DATA_PROTECTION)),
        "clinical": make_node(
            "clinical", writes=(COORDINATORS, PACS_ADMINISTRATORS), is_clinical=True
        ),
        "closed": make_node("closed", reads=(COORDINATORS,), is_open=False),
        "nobody's": make_node("nobody's"),
    }


@pytest.mark.parametrize(
    ("who", "reads", "writes"),
    [
        ("coordinator", {"source", "closed"}, {"research"}),
        ("pacsadmin", set(), {"clinical"}),
        ("dpo", set(), {"research"}),
        ("stranger", set(), set()),
    ],
)
def test_groups_grant_access_to_nodes(request, nodes, who, reads, writes):
    user = request.getfixturevalue(who)

    assert {node.name for node in readable_nodes(user)} == reads
    assert {node.name for node in writable_nodes(user)} == writes
    for name, node in nodes.items():
        assert may_read(user, node) is (name in reads)
        assert may_write(user, node) is (name in writes)


def test_access_is_the_union_over_the_groups_of_a_user(nodes, make_user):
    user = make_user("both", COORDINATORS, PACS_ADMINISTRATORS)

    assert {node.name for node in writable_nodes(user)} == {"research", "clinical"}


def test_a_superuser_has_access_to_all_nodes(nodes, root):
    assert readable_nodes(root).count() == writable_nodes(root).count() == len(nodes)


def test_anonymous_and_inactive_users_have_no_access(nodes, root, coordinator):
    root.is_active = coordinator.is_active = False

    for user in (root, coordinator, AnonymousUser()):
        assert not readable_nodes(user).exists()
        assert not writable_nodes(user).exists()
