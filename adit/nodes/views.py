"""Pages of nodes: list, one node, edit, test, pause, access."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def node_list(request: HttpRequest) -> HttpResponse:
    return render(request, "nodes/node_list.html", {})
