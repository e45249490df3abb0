"""The envelope of Prometheus' HTTP API: answers, errors, and values as it writes them. Not here: what is answered.

Source: https://prometheus.io/docs/prometheus/latest/querying/api, "Format overview".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from rules import ExpressionError
from rules.query import Element
from telemetry import RetryLater, TocsinError
from tocsin.words import exact

_log = logging.getLogger("tocsin.http")
ErrorType = Literal["bad_data", "execution", "timeout", "unavailable", "internal"]
_STATUS: dict[ErrorType, int] = {
    "bad_data": 400,
    "execution": 422,
    "timeout": 503,
    "unavailable": 503,
    "internal": 500,
}


_MOST_BYTES = 1 << 20
"""Of the body of a request."""


class Success(BaseModel):
    """An answer."""

    status: Literal["success"]
    data: Any = Field(description="What was asked for.")
    warnings: list[str] = Field([], description="What is wrong with the data; only if something is.")


class Failure(BaseModel):
    """Why there is none."""

    status: Literal["error"]
    errorType: ErrorType = Field(description="By whom it can be mended.")  # noqa: N815  # upstream's name
    error: str = Field(description="What is wrong; of an expression, with line and column.")


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Success},
    400: {"model": Failure, "description": "A parameter is missing or wrong."},
    422: {"model": Failure, "description": "The expression cannot be evaluated."},
    503: {"model": Failure, "description": "It took too long, or too many ask at once."},
}


class ApiError(Exception):
    """An error for the one who asks."""

    def __init__(self, type_: ErrorType, message: str) -> None:
        super().__init__(message)
        self.type = type_


class PrometheusRoute(APIRoute):
    """A route whose errors, whatever raises them, come in the envelope."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As APIRoute's."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                _check_size(request)
                return await handle(request)
            except ApiError as error:
                return failure(error)
            except RequestValidationError as error:
                first = error.errors()[0]
                return failure(ApiError("bad_data", f"invalid parameter {_quoted(first['loc'][-1])}: {first['msg']}"))
            except HTTPException as error:  # a body that is none
                return failure(ApiError("bad_data", str(error.detail)))
            except RetryLater as error:
                return failure(ApiError("unavailable", str(error)))
            except TocsinError as error:
                return failure(ApiError("internal", str(error)))
            except MemoryError:
                return failure(ApiError("execution", "there is not enough memory for it: ask for less"))
            except Exception:  # noqa: BLE001  # whatever it is, clients expect the envelope
                _log.exception("%s %s could not be answered", request.method, request.url.path)
                return failure(ApiError("internal", "this should not happen: the log of tocsin has more"))

        return handled


def _check_size(request: Request) -> None:
    """Raises ApiError for a body that is long, or does not say how long it is."""
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or not length.isdecimal() or int(length[:10]) > _MOST_BYTES:
        raise ApiError("bad_data", f"a request has at most {_MOST_BYTES} bytes, and says how many")


def failure(error: ApiError) -> Response:
    """The error in the envelope."""
    text = str(error).encode(errors="replace").decode()  # halves of characters cannot be sent
    body = orjson.dumps({"status": "error", "errorType": error.type, "error": text})
    return Response(body, _STATUS[error.type], media_type="application/json")


def success(data: Any, warnings: Sequence[str] = ()) -> Response:
    """The data, which JSON can say, in the envelope."""
    return enveloped([orjson.dumps(data)], warnings)


def enveloped(data: Iterable[bytes], warnings: Sequence[str] = ()) -> Response:
    """The data, which is JSON already, in parts."""
    told = b',"warnings":' + orjson.dumps(list(warnings)) if warnings else b""
    body = b"".join([b'{"status":"success","data":', *data, told, b"}"])
    return Response(body, media_type="application/json")


def misplaced(parameter: str, text: str, error: ExpressionError) -> ApiError:
    """What is wrong with a parameter that holds an expression, with the line and column, both from 1."""
    before = text[: error.offset]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return ApiError("bad_data", f"invalid parameter {_quoted(parameter)}: {line}:{column}: parse error: {error}")


def _quoted(text: object) -> str:
    return f'"{text}"'


def vector(elements: Iterable[Element]) -> bytes:
    """An instant vector: of each element its first sample."""
    parts = [
        b'{"metric":%b,"value":[%b,"%b"]}' % (orjson.dumps(labels), seconds(int(time[0])), exact(value[0]).encode())
        for labels, time, value in elements
    ]
    return b"[%b]" % b",".join(parts)


def matrix(elements: Iterable[Element]) -> bytes:
    """A range vector; sorted by labels, as upstream's are."""
    written: dict[int, bytes] = {}
    parts = []
    for labels, times, values in sorted(elements, key=lambda element: sorted(element[0].items())):
        samples = []
        for time, value in zip(times.tolist(), values.tolist(), strict=True):
            at = written.get(time)
            if at is None:  # elements mostly have the same times
                at = written[time] = seconds(time)
            samples.append(b'[%b,"%b"]' % (at, exact(value).encode()))
        parts.append(b'{"metric":%b,"values":[%b]}' % (orjson.dumps(labels), b",".join(samples)))
    return b"[%b]" % b",".join(parts)


def seconds(ns: int) -> bytes:
    """An instant, in seconds to the millisecond, as JSON."""
    whole, ms = divmod(ns // 10**6, 1000)
    if whole < 0:
        return orjson.dumps((whole * 1000 + ms) / 1000)
    return b"%d.%03d" % (whole, ms) if ms else b"%d" % whole


def rfc3339(ns: int) -> str:
    """An instant, to the nanosecond, as Go writes it: without zeros at the end."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC)
    fraction = f".{ns % 10**9:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def exponential(value: float) -> str:
    """The value of an alert, as Go's 'e' writes it: 25 is 2.5e+01."""
    text = exact(value)
    if text[-1] in "fN":  # Inf, NaN
        return text
    sign, digits, exponent = Decimal(repr(float(value))).as_tuple()
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    power = len(digits) + int(exponent) - 1 if any(digits) else 0
    return f"{'-' * sign}{shown[0]}{'.' * (len(shown) > 1)}{shown[1:]}e{power:+03d}"
