"""The routes: a page for people, /v1 for programs, /v2 and /metrics for those who run it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gtdnet import __version__
from gtdnet.serve.answers import FORMS
from gtdnet.serve.answers import Query as Asked
from gtdnet.serve.camera import Cameras
from gtdnet.serve.collecting import Collector
from gtdnet.serve.guard import answer
from gtdnet.serve.refusal import Refusal
from gtdnet.serve.service import Service

WINDOW = 2.0
"""Seconds of a window, where "auto" finds a video long."""

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/shared.js": ("shared.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_COLLECT_FILES = {
    "/collect": ("collect.html", "text/html"),
    "/collect.js": ("collect.js", "text/javascript"),
}
_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a video, as they are: no form.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ERROR = {
    "description": "Refused: one sentence, and a word that stays the same.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
            }
        }
    },
}
_CODES = (400, 401, 403, 404, 408, 413, 421, 422, 503, 504)
_REFUSALS: dict[int | str, dict[str, Any]] = dict.fromkeys(_CODES, _ERROR)


def make_app(
    service: Service,
    cameras: Cameras,
    collector: Collector | None,
    is_ready: Callable[[], bool],
) -> FastAPI:
    """The application, without its guard. With a collector and no models its page is the first."""
    app = FastAPI(
        title="gtdnet",
        version=__version__,
        description="Names the action in videos.",
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
    )
    files = dict(_FILES)
    if collector:
        files |= _COLLECT_FILES
        if not service.models:
            files["/"] = files["/collect"]
    for path, (file, kind) in files.items():
        app.add_api_route(path, _file(file, kind), include_in_schema=False)
    _add_v1(app, service, cameras, collects=collector is not None)
    if collector:
        app.add_api_websocket_route("/v1/collect", collector.sit)
    _add_v2(app, service, is_ready)

    @app.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    _add_refusals(app, service)
    return app


def _file(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (resources.files("gtdnet.serve") / name).read_bytes()

    async def give() -> Response:
        return Response(content, media_type=kind)

    return give


def _add_v1(app: FastAPI, service: Service, cameras: Cameras, *, collects: bool) -> None:
    @app.get("/v1/models", summary="The models, their classes and what they can show")
    async def models() -> dict[str, Any]:
        limits = service.limits
        decoding = service.decoders.limits
        return {
            "models": [served.to_json() for served in service.models.values()],
            "collects": collects,
            "limits": {
                "megabytes": limits.max_megabytes,
                "seconds": decoding.seconds,
                "pixels": decoding.pixels,
                "timeout": limits.timeout,
            },
        }

    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="its name; default: the first")] = None,
        topk: Annotated[int, Query(ge=1, le=1000, description="classes to name")] = 5,
        window: Annotated[
            str | None,
            Query(description='seconds; "auto": windows of 2 if the video is long'),
        ] = None,
        stride: Annotated[float | None, Query(ge=0.01, le=3600, description="seconds")] = None,
        clips: Annotated[int, Query(ge=1, le=10, description="test clips")] = 1,
        crops: Annotated[int, Query(description="1 or 3")] = 1,
        picture: Annotated[bool, Query(description="how the model sees it, too")] = False,
        form: Annotated[str, Query(description=" | ".join(FORMS))] = "json",
    ) -> Response:
        asked = _asked(topk, window, stride, clips, crops, picture, form)
        found = await service.predict(
            model, asked, _length(request), request.stream(), lambda: _gone(request)
        )
        if isinstance(found, bytes):
            return Response(found, media_type="image/png")
        return JSONResponse(found)

    for method in ("PUT", "POST"):
        app.add_api_route(
            "/v1/predict",
            predict,
            methods=[method],
            operation_id=f"predict_{method.lower()}",
            summary="Name what happens in a video",
            openapi_extra=_BODY,
            responses=_REFUSALS,
        )

    @app.websocket("/v1/camera")
    async def camera(socket: WebSocket, model: str | None = None, topk: int = 5) -> None:
        await cameras.watch(socket, model, min(max(topk, 1), 1000))


def _add_v2(app: FastAPI, service: Service, is_ready: Callable[[], bool]) -> None:
    """Health and metadata of the Open Inference Protocol (KServe v2)."""

    @app.get("/v2/health/live", summary="The process lives")
    async def live() -> dict[str, bool]:
        return {"live": True}

    def readiness(**more: Any) -> JSONResponse:
        ready = is_ready()
        return JSONResponse({**more, "ready": ready}, 200 if ready else 503)

    @app.get("/v2/health/ready", summary="It takes requests", responses={503: {}})
    async def ready() -> Response:
        return readiness()

    @app.get("/v2", summary="The server")
    async def server() -> dict[str, Any]:
        return {"name": "gtdnet", "version": __version__, "extensions": []}

    @app.get("/v2/models/{model}", summary="A model's input and output", responses=_REFUSALS)
    async def model(model: str) -> dict[str, Any]:
        return service.models.named(model).to_kserve()

    @app.get("/v2/models/{model}/ready", summary="It answers", responses={503: {}})
    async def model_ready(model: str) -> Response:
        return readiness(name=service.models.named(model).name)


# ------------------------------------------------------------------------------------- questions


def _asked(
    topk: int,
    window: str | None,
    stride: float | None,
    clips: int,
    crops: int,
    picture: bool,
    form: str,
) -> Asked:
    if form not in FORMS:
        raise _bad("form", f"must be one of {', '.join(FORMS)}", form)
    if crops not in (1, 3):
        raise _bad("crops", "must be 1 or 3", crops)
    auto, seconds = window == "auto", None
    if auto:
        seconds = WINDOW
    elif window is not None:
        try:
            seconds = float(window)
        except ValueError:
            seconds = float("nan")
        if not 0.05 <= seconds <= 3600:
            raise _bad("window", "must be seconds from 0.05 to 3600, or auto", window)
    if stride is not None and seconds is None:
        raise _bad("stride", "goes with window; give both", stride)
    return Asked(
        topk=topk,
        window=seconds,
        stride=seconds if stride is None else stride,
        auto=auto,
        clips=clips,
        crops=crops,
        wants_picture=picture,
        form=form,
    )


def _bad(name: str, what: str, given: object) -> Refusal:
    return Refusal(422, "bad_query", f"{name} {what}, got {str(given)[:100]!r}.")


def _length(request: Request) -> int | None:
    """Bytes that a request says its body has; they are counted all the same."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


async def _gone(request: Request) -> None:
    """Return when the client goes, its body having been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# ------------------------------------------------------------------------------------- refusals


class _Refused(Response):
    """A refusal as a response: :func:`gtdnet.serve.guard.answer` gives it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_code=refusal.status)
        self._app = answer(refusal)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def _add_refusals(app: FastAPI, service: Service) -> None:
    def refuse(refusal: Refusal) -> Response:
        service.metrics.refused.labels(refusal.code).inc()
        return _Refused(refusal)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return refuse(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, what = str(first["loc"][-1]), str(first["msg"])
        return refuse(_bad(name, f"is not as it should be ({what})", first.get("input")))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return refuse(Refusal(404, "no_page", "There is nothing at this address."))
        if error.status_code == 405:
            sentence = f"{request.method} is not for this address; /openapi.json says what is."
            return refuse(Refusal(405, "wrong_method", sentence))
        return refuse(Refusal(error.status_code, "refused", f"{error.detail}."))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return refuse(Refusal(500, "failed", "The server failed; its log says where."))
