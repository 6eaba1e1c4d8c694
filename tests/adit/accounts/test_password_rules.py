"""Password rules: long passphrases of any characters are accepted, predictable ones are not."""

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from adit.accounts.models import User

USER = User(
    username="annamueller", first_name="Anna", last_name="Müller", email="am@hospital.example"
)


@pytest.mark.parametrize(
    "password",
    [
        "four words in a row",
        "correct horse battery staple",
        "abends ist es in der mensa leer",
        "übermäßig laute lüftung",
        "пароль для большой работы",
        "k7#Rw9!mQz2x",
        "x9 quiet lamp river " * 6,
        "0815 4711 2208 1999",
    ],
)
def test_a_long_password_of_any_characters_is_accepted(password: str) -> None:
    assert len(password) <= 128
    validate_password(password, USER)


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("k7#Rw9!mQz2", "password_too_short"),
        ("four words in a row " * 7, "password_too_long"),
        ("aaaaaaaaaaaa", "password_predictable"),
        ("abcabcabcabc", "password_predictable"),
        ("123456789012", "password_predictable"),
        ("abcdefgh1234", "password_predictable"),
        ("qwertzuiop123", "password_predictable"),
        ("112233445566", "password_predictable"),
        ("passwordpassword", "password_too_common"),
        ("Password2026!!", "password_too_common"),
        ("P@ssw0rd2026", "password_too_common"),
        ("annamueller1", "password_too_similar"),
        ("Annamueller#2026", "password_too_similar"),
    ],
)
def test_a_predictable_password_is_refused_with_the_reason(password: str, code: str) -> None:
    with pytest.raises(ValidationError) as refused:
        validate_password(password, USER)

    assert code in {error.code for error in refused.value.error_list}
