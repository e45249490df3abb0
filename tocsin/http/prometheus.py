"""The HTTP API in Prometheus' shape, for Grafana, promtool and whoever speaks it: paths and parameters.

Not here: the answers (prometheus_query, prometheus_metadata, prometheus_rules), the envelope (prometheus_answers).

Source: https://prometheus.io/docs/prometheus/latest/querying/api
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from tocsin import __version__
from tocsin.backend import Backend
from tocsin.http.prometheus_answers import RESPONSES, PrometheusRoute, success
from tocsin.http.prometheus_metadata import Metadata
from tocsin.http.prometheus_parameters import ExemplarQuery, InstantQuery, RangeQuery, SeriesQuery, flag
from tocsin.http.prometheus_query import Gate, Queries
from tocsin.http.prometheus_rules import RuleList

SPOKEN = "3.0.0"
"""The version of Prometheus whose API and PromQL this is: clients decide by it what they may ask for."""


def router(backend: Backend) -> APIRouter:
    """Everything below /api/v1 that Prometheus' clients ask for."""
    routes = APIRouter(prefix="/api/v1", tags=["Prometheus"], route_class=PrometheusRoute, responses=RESPONSES)
    gate = Gate()
    _queries(routes, Queries(backend, gate))
    _metadata(routes, Metadata(backend, gate))
    _rules(routes, RuleList(backend))
    _about(routes)
    return routes


def _queries(routes: APIRouter, queries: Queries) -> None:
    @routes.get("/query", summary="An expression at one instant")
    def query(asked: Annotated[InstantQuery, Query()]) -> Response:
        return queries.instant(asked)

    @routes.post("/query", summary="An expression at one instant; parameters as a form")
    def query_posted(asked: Annotated[InstantQuery, Form()], request: Request) -> Response:
        return queries.instant(asked.or_from(request.query_params))

    @routes.get("/query_range", summary="An expression at each step from start to end")
    def query_range(asked: Annotated[RangeQuery, Query()]) -> Response:
        return queries.range(asked)

    @routes.post("/query_range", summary="An expression at each step from start to end; parameters as a form")
    def query_range_posted(asked: Annotated[RangeQuery, Form()], request: Request) -> Response:
        return queries.range(asked.or_from(request.query_params))

    @routes.get("/query_exemplars", summary="Exemplars: there are none")
    def query_exemplars(asked: Annotated[ExemplarQuery, Query()]) -> Response:
        del asked
        return success([])

    @routes.post("/query_exemplars", summary="Exemplars: there are none; parameters as a form")
    def query_exemplars_posted(asked: Annotated[ExemplarQuery, Form()]) -> Response:
        del asked
        return success([])


def _metadata(routes: APIRouter, metadata: Metadata) -> None:
    @routes.get("/series", summary="The label sets of series")
    def series(asked: Annotated[SeriesQuery, Query()]) -> Response:
        return metadata.series(asked)

    @routes.post("/series", summary="The label sets of series; parameters as a form")
    def series_posted(asked: Annotated[SeriesQuery, Form()], request: Request) -> Response:
        return metadata.series(asked.or_from(request.query_params))

    @routes.get("/labels", summary="The names of labels")
    def labels(asked: Annotated[SeriesQuery, Query()]) -> Response:
        return metadata.labels(asked)

    @routes.post("/labels", summary="The names of labels; parameters as a form")
    def labels_posted(asked: Annotated[SeriesQuery, Form()], request: Request) -> Response:
        return metadata.labels(asked.or_from(request.query_params))

    @routes.get("/label/{name}/values", summary="The values of a label")
    def values(name: str, asked: Annotated[SeriesQuery, Query()]) -> Response:
        return metadata.values(name, asked)

    @routes.get("/metadata", summary="What is known of each metric")
    def metrics(metric: str = "", limit: str = "", limit_per_metric: str = "") -> Response:
        return metadata.metrics(metric, limit, limit_per_metric)


def _rules(routes: APIRouter, listed: RuleList) -> None:
    @routes.get("/rules", summary="The rules, and their alerts")
    def rules(
        type_: Annotated[str, Query(alias="type", description="`alert` or `record`; both if it is empty.")] = "",
        rule_name: Annotated[list[str], Query(alias="rule_name[]")] = [],  # noqa: B006  # FastAPI copies it
        rule_group: Annotated[list[str], Query(alias="rule_group[]")] = [],  # noqa: B006  # as above
        file: Annotated[list[str], Query(alias="file[]")] = [],  # noqa: B006  # as above
        exclude_alerts: Annotated[str, Query(description="`true`: without their alerts.")] = "",
    ) -> Response:
        without = flag("exclude_alerts", exclude_alerts)
        return listed.rules(type_, rule_name, rule_group, file, exclude_alerts=without)

    @routes.get("/alerts", summary="The alerts that are pending or firing")
    def alerts() -> Response:
        return listed.alerts()


def _about(routes: APIRouter) -> None:
    @routes.get("/status/buildinfo", summary="Which version of Prometheus' API this is, and which tocsin")
    def buildinfo() -> Response:
        nothing = dict.fromkeys(("branch", "buildUser", "buildDate", "goVersion"), "")
        return success({"version": SPOKEN, "revision": f"tocsin {__version__}", **nothing})
