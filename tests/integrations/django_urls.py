"""The site of the tests of Django: its views, and middlewares beside ours."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.functional import SimpleLazyObject

import umami
from umami.integrations.django import track

gate = threading.Event()
tasks: list[Any] = []


def page(_: Any, number: str = "") -> HttpResponse:
    return HttpResponse(f"<h1>{number}</h1>")


def buy(_: Any) -> HttpResponse:
    umami.new_event("bought")
    return JsonResponse({})


async def buy_async(_: Any) -> HttpResponse:
    tasks.append(asyncio.current_task())
    await umami.new_event_async("bought")
    return JsonResponse({})


@track("seen")
async def tracked_async(_: Any) -> HttpResponse:
    return JsonResponse({})


def broken(_: Any) -> HttpResponse:
    raise ZeroDivisionError


def stream(_: Any) -> HttpResponse:
    def pieces() -> Iterator[str]:
        umami.new_event("first piece")
        yield "<html>"
        assert gate.wait(60)
        yield "</html>"

    return StreamingHttpResponse(pieces())


async def stream_async(_: Any) -> HttpResponse:
    async def pieces() -> AsyncIterator[str]:
        umami.new_event("first piece")
        yield "<html>"
        assert await sync_to_async(gate.wait, thread_sensitive=False)(60)
        yield "</html>"

    return StreamingHttpResponse(pieces())


def file(_: Any) -> HttpResponse:
    return FileResponse(io.BytesIO(b"<html></html>"), content_type="text/html")


def identity(request: Any) -> str:
    return f"user of {request.raw.path}"


async def identity_async(request: Any) -> str:
    return f"user of {request.raw.path}"


@async_only_middleware
def notes_task(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        tasks.append(asyncio.current_task())
        return await get_response(request)

    return middleware


@sync_only_middleware
def sync_only(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        return get_response(request)

    return middleware


@sync_only_middleware
def forbids_user(get_response: Any) -> Any:
    def forbidden() -> Any:
        raise AssertionError("somebody has asked for the user")

    def middleware(request: Any) -> Any:
        request.user = SimpleLazyObject(forbidden)
        return get_response(request)

    return middleware


urlpatterns = [
    path("items/<int:number>", page, name="item"),
    re_path(r"^old/(?P<number>\d+)$", page, name="old"),
    path("shop/", include(([path("article/<number>", page, name="article")], "shop"))),
    path("buy", buy),
    path("abuy", buy_async),
    path("atracked", tracked_async),
    path("json", lambda _: JsonResponse({})),
    path("broken", broken),
    path("stream", stream),
    path("astream", stream_async),
    path("file", file),
]
