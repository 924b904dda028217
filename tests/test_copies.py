"""Copies and pickles of clients: new clients with the same settings."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from conftest import CORE_ONLY, DEADLINE
from process_helpers import finished, once, settings
from queue_helpers import stored

import umami
from umami.collector import Collector

MakeClient = Callable[..., umami.Client]


def pickled(client: umami.Client) -> umami.Client:
    return pickle.loads(pickle.dumps(client))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_has_the_settings_and_a_queue_of_its_own(
    copied: Callable[[umami.Client], umami.Client], collector: Collector, make_client: MakeClient
) -> None:
    client = make_client(batch_size=7)
    client.new_event("original")
    assert client.flush(DEADLINE)
    with copied(client) as other:
        assert other.queue_stats().submitted == 0
        assert other._state.settings == client._state.settings
        other.new_event("copy")
        assert other.flush(DEADLINE)
    client.new_event("original again")
    assert client.flush(DEADLINE)
    assert stored(collector) == once("original", "copy", "original again")


def test_an_object_with_a_client_can_be_copied(make_client: MakeClient) -> None:
    class Service:
        analytics = make_client(on_error=lambda report: None)

    service = Service()
    service.own = make_client(on_error=lambda report: None)
    assert copy.deepcopy(service).own is not service.own


def test_a_setting_that_cannot_be_pickled_is_named(make_client: MakeClient) -> None:
    client = make_client(on_error=lambda report: None)
    with pytest.raises(TypeError, match=r"on_error cannot be pickled .* Make a Client in each process"):
        pickle.dumps(client)


def test_a_function_of_the_module_is_that_of_the_process() -> None:
    assert pickle.loads(pickle.dumps(umami.new_event)) == umami.new_event
    assert copy.deepcopy(umami.new_event) == umami.new_event


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_pool_calls_a_function_of_the_module(method: str, collector: Collector, tmp_path: Any) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing, umami
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(2, multiprocessing.get_context("{method}")) as pool:
        print(list(pool.map(umami.new_event, ["a", "b"])))
"""
    )
    run = finished(str(program), **CORE_ONLY, **settings(collector))
    assert run.returncode == 0, run.stderr
    assert stored(collector) == once("a", "b")
