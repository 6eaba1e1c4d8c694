"""Help topics: pages, search, help buttons; translation marks in all templates."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from adit.pages import help as manual

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("slug", [topic.slug for topic in manual.TOPICS])
def test_each_topic_has_a_public_page(slug: str) -> None:
    response = Client().get(f"/help/{slug}")

    assert response.status_code == 200
    assert len(manual.get_topic(slug).text.split()) > 150


def test_an_unknown_topic_returns_404() -> None:
    assert Client().get("/help/nothing").status_code == 404


def test_search_ranks_the_topic_about_the_word_first() -> None:
    hits = manual.search_topics("jobs")

    assert hits[0].topic.slug == "jobs"


def test_search_requires_every_word_and_ignores_case() -> None:
    assert manual.search_topics("AE Title")
    assert manual.search_topics("ae title zeppelin") == []
    assert manual.search_topics("   ") == []


def test_the_excerpt_contains_the_word() -> None:
    hit = manual.search_topics("firewall")[0]

    assert "firewall" in hit.excerpt
    assert len(hit.excerpt) < 260


def test_the_text_of_a_topic_has_spaces_between_elements() -> None:
    text = manual.get_topic("words").text

    assert "Delivered The destination" in text
    assert "<" not in text


def test_the_search_page_escapes_the_query() -> None:
    page = Client().get("/help/", {"words": "<script>alert(1)</script>"}).content.decode()

    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_each_help_button_refers_to_an_existing_topic() -> None:
    templates = settings.PACKAGE_DIR.glob("*/templates/**/*.html")
    named = {
        name
        for template in templates
        if "components" not in template.parts and template.parent.name != "help"
        for name in re.findall(r'{% help_button "([^"]+)"', template.read_text())
    }

    assert named >= {"start", "jobs", "nodes", "sign-in"}
    assert named <= {topic.slug for topic in manual.TOPICS}


def test_all_text_in_templates_is_marked_for_translation() -> None:
    """Report words outside of translate and blocktranslate tags."""
    forgotten = {}
    for template in settings.PACKAGE_DIR.glob("*/templates/**/*.html"):
        left = _bare_words(template)
        if left:
            forgotten[str(template.relative_to(settings.PACKAGE_DIR))] = left

    assert forgotten == {}


NAMES = {"ADIT", "PACS", "·", "CT"}


def _bare_words(template: Path) -> list[str]:
    text = template.read_text()
    text = re.sub(r"{% comment %}.*?{% endcomment %}", "", text, flags=re.S)
    text = re.sub(r"{% blocktranslate.*?{% endblocktranslate %}", "", text, flags=re.S)
    text = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", text, flags=re.S)
    text = re.sub(
        r"<kbd>.*?</kbd>|<code translate=\"no\">.*?</code>|<[^>]*>|&\w+;", "", text, flags=re.S
    )
    return [word for word in re.findall(r"[^\W\d_]{2,}", text) if word not in NAMES]
