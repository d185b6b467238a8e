"""The endpoints of the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pydantic_core
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.routing import Route

from .. import __version__
from ..models.pipeline_multitask import MultiTaskPipeline
from ..models.type_aliases import JsonObject
from .answers import EmbedKind, ModelAnswers, PredictKind
from .batch_queue import BatchQueue, Job
from .errors import ClientGoneError, RequestError
from .metrics import ServerMetrics
from .middleware import CLIENT_GONE, Receive, RequestMonitor, Scope, Send, TokenCheck
from .model_facts import model_facts
from .request_body import read_body
from .request_schemas import UTF_16, EmbedRequest, PredictRequest, check_limits, num_characters, parse_request
from .settings import ServerSettings

logger = logging.getLogger(__name__)

JSON = "application/json"
# A client that has closed its connection is noticed if its answer takes longer.
SECONDS_UNWATCHED = 0.05
_DESCRIBED: dict[str, tuple[type[BaseModel], str]] = {
    "/predict": (PredictRequest, "Predict all tasks for one text or a list, as the pipeline does."),
    "/embed": (EmbedRequest, "Embed one text or a list, as `MultiTaskModel.encode` does."),
}
_REFUSALS = {
    "401": {"description": "The token is missing or wrong."},
    "413": {"description": "The body is too large."},
    "415": {"description": "The body is not JSON."},
    "422": {"description": "The request is invalid; `detail` says where."},
    "429": {"description": "Too many texts wait; `Retry-After` says for how many seconds."},
}


class _DescribedApp(FastAPI):
    """An application whose description has the endpoints of the model, too: they read and write bodies themselves."""

    def openapi(self) -> JsonObject:
        """Return the description of the endpoints."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        description = super().openapi()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        for path, (body, summary) in _DESCRIBED.items():
            reference = "#/components/schemas/{model}"
            schema = body.model_json_schema(ref_template=reference)
            schemas.update(schema.pop("$defs", {}))
            schemas[body.__name__] = schema
            content = {JSON: {"schema": {"$ref": reference.format(model=body.__name__)}}}
            answers = {"200": {"description": "The answers.", "content": {JSON: {}}}, **_REFUSALS}
            request_body = {"content": content, "required": True}
            description["paths"][path] = {
                "post": {"summary": summary, "requestBody": request_body, "responses": answers}
            }
        return description


def build_app(pipeline: MultiTaskPipeline, settings: ServerSettings) -> FastAPI:
    """Build the application.

    Args:
        pipeline: Pipeline of the model.
        settings: Settings.

    Returns:
        The application. The threads of the model run between its startup and its shutdown.
    """
    metrics = ServerMetrics()
    compute = ModelAnswers(pipeline, settings.max_batch, settings.backend, settings.workers)
    queue = BatchQueue(
        compute,
        settings.max_batch,
        settings.max_wait_ms / 1000,
        settings.max_queue,
        metrics.on_batch,
        compute.batches_at_once,
    )
    answers = _Answers(queue, metrics, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        logger.info("ready: http://%s:%d, described at /docs", settings.host, settings.port)
        yield
        await asyncio.to_thread(queue.close)

    app = _DescribedApp(
        title="hf_multitask",
        description="All answers of a multi-task model from one pass of its encoder.",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    for path, answer in (("/predict", answers.predict), ("/embed", answers.embed)):
        app.router.routes.insert(0, Route(path, _Endpoint(answer), methods=["POST"]))  # looked at first
    _add_facts(app, queue, metrics, model_facts(pipeline, settings))
    # The last one is the first to see a request.
    if settings.token is not None:
        app.add_middleware(TokenCheck, token=settings.token)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(RequestMonitor, metrics=metrics, logs_requests=settings.log != "errors")
    return app


class _Answers:
    """Puts requests into the queue and waits for their answers.

    Args:
        queue: Queue of the model.
        metrics: Metrics.
        settings: Limits.
    """

    def __init__(self, queue: BatchQueue, metrics: ServerMetrics, settings: ServerSettings) -> None:
        self.queue = queue
        self.metrics = metrics
        self.settings = settings

    async def predict(self, request: Request) -> object:
        """Return predictions: of one text, or a list of them."""
        given = parse_request(PredictRequest, await read_body(request, self.settings.max_body_bytes))
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in given.options().items()}
        kind = PredictKind(tuple(sorted(options.items())), given.offsets == UTF_16)
        found = await self._compute(request, kind, given.texts())
        return found if isinstance(given.inputs, list) else found[0]

    async def embed(self, request: Request) -> object:
        """Return sentence embeddings: of one text, or a list of them."""
        given = parse_request(EmbedRequest, await read_body(request, self.settings.max_body_bytes))
        found = await self._compute(request, EmbedKind(given.prompt_name), given.texts())
        return found if isinstance(given.inputs, list) else found[0]

    async def _compute(
        self, request: Request, kind: PredictKind | EmbedKind, texts: Sequence[str | JsonObject]
    ) -> Sequence[object]:
        check_limits(texts, self.settings)
        if self.settings.log == "texts":
            logger.info("texts %s", pydantic_core.to_json(texts).decode())
        if not texts:
            return []
        result: asyncio.Future[Sequence[object]] = asyncio.get_running_loop().create_future()
        job = Job(kind, texts, max(map(num_characters, texts)), result)
        watcher = _Watcher(request, result)
        try:
            self.queue.put(job)
            self.metrics.waiting.set(self.queue.num_texts)
            return await result
        except asyncio.CancelledError as error:
            self.queue.drop(job)
            self.metrics.dropped.inc()
            raise ClientGoneError from error
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        finally:
            watcher.cancel()
            self.metrics.waiting.set(self.queue.num_texts)


class _Watcher:
    """Cancels the result of a request if its client closes the connection. The body must have been read."""

    def __init__(self, request: Request, result: "asyncio.Future[Sequence[object]]") -> None:
        self._request = request
        self._result = result
        self._task: asyncio.Task[None] | None = None
        # Most answers are there before a task would be worth it.
        self._timer = asyncio.get_running_loop().call_later(SECONDS_UNWATCHED, self._start)

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._result.cancel()

    def cancel(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()


class _Endpoint:
    """An endpoint without what a framework does for each request: it would be a third of the time.

    Args:
        answer: Function from a request to its answer.
    """

    def __init__(self, answer: Callable[[Request], Awaitable[object]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        try:
            # Numbers that are not finite, which JSON does not have, become null.
            body = pydantic_core.to_json(await self._answer(Request(scope, receive)))
        except RequestError as error:
            await JSONResponse({"detail": error.message}, error.status, error.headers)(scope, receive, send)
        except ClientGoneError:
            await Response(status_code=CLIENT_GONE)(scope, receive, send)
        else:
            headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})


def _add_facts(app: FastAPI, queue: BatchQueue, metrics: ServerMetrics, facts: JsonObject) -> None:
    """Add the endpoints that the model is not needed for."""

    @app.get("/model")
    async def model() -> JsonObject:
        """Return the tasks with their labels, the limits of requests, and versions."""
        return facts

    @app.get("/health")
    async def health() -> JsonObject:
        """Answer as long as the process can answer requests."""
        return {"status": "ok"}

    @app.get("/ready", responses={503: {"description": "The server is starting or stopping."}})
    async def ready() -> Response:
        """Answer whether requests get answers: status 200 or 503."""
        if queue.is_running:
            return JSONResponse({"status": "ready", "waiting_texts": queue.num_texts})
        return JSONResponse({"status": "not ready"}, 503)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        """Return the metrics in the format of Prometheus."""
        return Response(metrics.to_text(), media_type=CONTENT_TYPE_LATEST)
