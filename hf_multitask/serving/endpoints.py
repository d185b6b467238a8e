"""The endpoints of the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager

import pydantic_core
from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from .. import __version__
from ..models.pipeline_multitask import MultiTaskPipeline
from ..models.type_aliases import JsonObject
from .answers import EmbedKind, ModelAnswers, PredictKind
from .batch_queue import BatchQueue, Job
from .errors import ClientGoneError, RequestError
from .metrics import ServerMetrics
from .middleware import CLIENT_GONE, RequestMonitor, TokenCheck
from .model_facts import model_facts
from .request_body import read_body
from .request_schemas import UTF_16, EmbedRequest, PredictRequest, check_limits, num_characters, parse_request
from .settings import ServerSettings

logger = logging.getLogger(__name__)

JSON = "application/json"
_REFUSALS: dict[int | str, JsonObject] = {
    401: {"description": "The token is missing or wrong."},
    413: {"description": "The body is too large."},
    415: {"description": "The body is not JSON."},
    422: {"description": "The request is invalid; `detail` says where."},
    429: {"description": "Too many texts wait; `Retry-After` says for how many seconds."},
}


class _DescribedApp(FastAPI):
    """An application whose description has the bodies of requests: the endpoints read them themselves."""

    def openapi(self) -> JsonObject:
        """Return the description of the endpoints."""
        if self.openapi_schema is not None:
            return self.openapi_schema
        description = super().openapi()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        for path, body in (("/predict", PredictRequest), ("/embed", EmbedRequest)):
            reference = "#/components/schemas/{model}"
            schema = body.model_json_schema(ref_template=reference)
            schemas.update(schema.pop("$defs", {}))
            schemas[body.__name__] = schema
            content = {JSON: {"schema": {"$ref": reference.format(model=body.__name__)}}}
            description["paths"][path]["post"]["requestBody"] = {"content": content, "required": True}
        return description


def build_app(pipeline: MultiTaskPipeline, settings: ServerSettings) -> FastAPI:
    """Build the application.

    Args:
        pipeline: Pipeline of the model.
        settings: Settings.

    Returns:
        The application. Its thread for the model runs between its startup and its shutdown.
    """
    metrics = ServerMetrics()
    queue = BatchQueue(
        ModelAnswers(pipeline, settings.max_batch),
        settings.max_batch,
        settings.max_wait_ms / 1000,
        settings.max_queue,
        metrics.on_batch,
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
    _add_answers(app, answers)
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
        watcher = asyncio.ensure_future(_wait_until_gone(request))
        watcher.add_done_callback(lambda _: result.cancel())
        try:
            self.queue.put(job)
            self.metrics.waiting.set(self.queue.num_texts)
            return await result
        except asyncio.CancelledError as error:
            self.metrics.dropped.inc()
            raise ClientGoneError from error
        except ValueError as error:
            raise RequestError(422, str(error)) from error
        finally:
            watcher.cancel()
            self.metrics.waiting.set(self.queue.num_texts)


async def _wait_until_gone(request: Request) -> None:
    """Return when the client has closed its connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_answers(app: FastAPI, answers: _Answers) -> None:
    """Add the endpoints that the model answers."""

    @app.post("/predict", responses=_REFUSALS)
    async def predict(request: Request) -> Response:
        """Predict all tasks for one text or a list, as the pipeline does."""
        return await _respond(answers.predict(request))

    @app.post("/embed", responses=_REFUSALS)
    async def embed(request: Request) -> Response:
        """Embed one text or a list, as `MultiTaskModel.encode` does."""
        return await _respond(answers.embed(request))


async def _respond(answer: Awaitable[object]) -> Response:
    """Return the response to a request, whether it has an answer or is refused."""
    try:
        # Numbers that are not finite, which JSON does not have, become null.
        return Response(pydantic_core.to_json(await answer), media_type=JSON)
    except RequestError as error:
        return JSONResponse({"detail": error.message}, error.status, error.headers)
    except ClientGoneError:
        return Response(status_code=CLIENT_GONE)


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
