"""The base of the typed parts of a result: a JSON object in, attributes with types out, and the same JSON object back.

Its own module because it says how JSON is kept (key order, unknown keys, absent keys) and what numbers may be, and models.py
what a result holds.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainSerializer,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


def copy_list(json_value: Any) -> Any:
    """A list again, so that changes of one do not reach the other; any other value as it is."""
    return list(json_value) if isinstance(json_value, list) else json_value


def as_tuple(json_value: Any) -> Any:
    """A list as a tuple; any other value as it is."""
    return tuple(json_value) if isinstance(json_value, list) else json_value


Fraction = Annotated[float, Field(ge=0, le=1)]
ConfidenceInterval = Annotated[tuple[Fraction, Fraction], BeforeValidator(as_tuple), PlainSerializer(list)]
StandardError = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=10**12)]
PositiveCount = Annotated[int, Field(ge=1, le=10**12)]
ParameterCount = Annotated[int, Field(ge=0, le=10**18)]
Seconds = Annotated[float, Field(ge=0)]


class JsonObject(BaseModel):
    """A JSON object whose known keys have types; unknown keys are kept, so that a newer program's file survives.

    `to_json` and `==` speak of what was written: an absent key is not a null one.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    _key_order: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _remember_key_order(cls, json_value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        instance = handler(json_value)
        if isinstance(json_value, dict):
            instance._key_order = tuple(json_value)
        return instance

    @model_serializer(mode="wrap")
    def _serialize_in_key_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        json_object = handler(self)
        return {key: json_object[key] for key in (*self._key_order, *json_object) if key in json_object}

    def to_json(self) -> dict[str, Any]:
        """The JSON object: the keys that were set, in the order in which they were, later ones in the class's order."""
        return self.model_dump(exclude_unset=True)

    def __eq__(self, other: object) -> bool:
        """Whether two parts say the same, whatever the order of their keys."""
        return type(self) is type(other) and isinstance(other, JsonObject) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]
