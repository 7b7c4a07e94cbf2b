"""pydantic's errors as lines for the config's author: place, line, what to do. No text shows a value of the file
that may be a secret."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from hub.sandbox import near
from hub.yamlfile import Place, YamlFile

NAME_RULE = "a name has small letters, digits, - and _, starts with a letter or digit, and has at most 63 characters"


class Inner(ValueError):
    """Problems found by a validator further inside its value; `model` says which keys are known there."""

    def __init__(self, error: ValidationError, model: type[BaseModel] | None = None) -> None:
        super().__init__(f"{error.error_count()} problems inside")
        self.error = error
        self.model = model


def inner_problem(place: Place, text: str) -> InitErrorDetails:
    """One problem at `place` inside the validated value. `text` must show no secret."""
    return InitErrorDetails(type=PydanticCustomError("hub", "{text}", {"text": text}), loc=place, input=None)


def raise_inner(title: str, problems: list[InitErrorDetails]) -> None:
    """Raise Inner if there are any problems."""
    if problems:
        raise Inner(ValidationError.from_exception_data(title, problems))


def problem_lines(file: YamlFile, error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each place that has a problem, in the file's order."""
    found: dict[Place, str] = {}
    for place, text, kind in _problems(file, error, model, ()):
        # A union reports each of its members; "is no instance of" says least.
        if place not in found or kind != "is_instance_of":
            found.setdefault(place, text)
    places = sorted(found, key=file.line)
    return [file.at(place, _scrubbed(found[place], file.filled)) for place in places]


def _problems(
    file: YamlFile, error: ValidationError, model: type[BaseModel] | None, around: Place
) -> Iterator[tuple[Place, str, str]]:
    for detail in sorted(error.errors(include_url=False), key=lambda each: each["type"] == "is_instance_of"):
        loc: Place = (*around, *detail["loc"])
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts what was valid; why the rest is not is told anyway
        inside = (detail.get("ctx") or {}).get("error")
        if isinstance(inside, Inner):
            yield from _problems(file, inside.error, inside.model, loc)
            continue
        # pydantic adds names of its own for a union's members and for keys; the file's places have none.
        place = loc if detail["type"] in {"missing", "hub"} else file.known(loc)
        text = _text(detail, model)
        if around and detail["type"] in {"value_error", "assertion_error"}:
            text = _scrubbed(text, set(_texts(detail["input"])))
        yield place, text, detail["type"]


def _text(detail: ErrorDetails, model: type[BaseModel] | None) -> str:
    context, value, loc = detail.get("ctx") or {}, detail["input"], detail["loc"]
    match detail["type"]:
        case "missing":
            return f"is missing{_meaning(model, loc)}"
        case "extra_forbidden":
            return f"unknown{_did_you_mean(str(loc[-1]), _keys(model, loc[:-1]))}"
        case "value_error" | "assertion_error":
            return str(context["error"])
        case "string_type" | "is_instance_of":
            return "must be text: put it in quotes" if isinstance(value, bool | int | float) else "must be text"
        case "string_pattern_mismatch" if loc[-1:] == ("[key]",):
            return NAME_RULE
        case "string_too_short" if context.get("min_length") == 1:
            return "must not be empty"
        case "too_short":
            return f"needs at least {context.get('min_length', 1)}"
        case "model_type" | "dict_type" | "dict_attributes_type" | "mapping_type":
            return "must be keys with values"
        case "tuple_type" | "list_type":
            return "must be a list: [one, another]"
    return detail["msg"].replace("Input should be", "must be").replace("String should", "must")


def _did_you_mean(name: str, available: list[str]) -> str:
    like = get_close_matches(name[:60], available, 1, 0.6)
    return f"; did you mean {like[0]}?" if like else near(name, available)


def _keys(model: type[BaseModel] | None, loc: tuple[int | str, ...]) -> list[str]:
    inside = _model_at(model, loc)
    return [field.alias or name for name, field in inside.model_fields.items()] if inside else []


def _meaning(model: type[BaseModel] | None, loc: tuple[int | str, ...]) -> str:
    inside = _model_at(model, loc[:-1])
    fields = inside.model_fields.items() if inside else ()
    meaning = next((field.description for name, field in fields if loc[-1] in {name, field.alias}), None)
    return f": {meaning}" if meaning else ""


def _model_at(model: type[BaseModel] | None, loc: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model that pydantic's location leads to: a field leads on to its model, also in a dict or a list."""
    for step in loc:
        if model is None:
            return None
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        if step in fields:
            model = _model_in(fields[str(step)].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif hasattr(value, "reveal"):
        yield value.reveal()


def _scrubbed(text: str, values: set[str]) -> str:
    for value in sorted(values, key=len, reverse=True):
        # Where only a scheme was given, our own example would lose its scheme too.
        if len(value) >= 4 and not value.endswith("://"):
            text = text.replace(value, "****")
    return text
