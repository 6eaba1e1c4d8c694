"""A model field that is encrypted in the database under the master key. Used by many models."""

from typing import Any

from django.db import models

from adit.vault.master_key import master_cipher


class EncryptedField(models.BinaryField):
    """A field for any value that JSON can hold; None is stored as NULL. Cannot be searched."""

    # Read by the Django plugin of mypy.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else master_cipher().open(value, self._get_context())

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is None:
            return None
        return super().get_db_prep_value(
            master_cipher().seal(value, self._get_context()), connection, prepared
        )

    def to_python(self, value: Any) -> Any:
        return value

    def _get_context(self) -> str:
        return f"{self.model._meta.label_lower}.{self.name}"

    def value_to_string(self, obj: models.Model) -> str:
        raise ValueError("Encrypted values cannot be serialized.")
