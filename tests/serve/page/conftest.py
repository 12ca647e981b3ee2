"""A server of two models that keeps records, and its page in a browser."""

import pytest
from model_servers import serving
from served_page import SMALL_WINDOW, set_numbers
from tiny_llamas import make_model


@pytest.fixture(scope="package")
def small_model(tmp_path_factory, mini):
    """A model of a window that two turns fill."""
    folder = tmp_path_factory.mktemp("small") / "small"
    return make_model(folder, mini["mini:tokenizer"], max_position_embeddings=SMALL_WINDOW, hidden_size=32)


@pytest.fixture(scope="package")
def records_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="package")
def server(tiny_model, small_model, records_folder):
    """A server of two models that keeps records."""
    with serving(tiny_model, small_model, records_folder=records_folder) as running:
        yield running


@pytest.fixture
def page(open_tab, server):
    """Open the page with short greedy answers of the first model; gives the tab and its log."""

    def open_page(second_model="", **context_options):
        tab, log = open_tab(f"{server.url}/", f"{server.url}/", **context_options)
        tab.evaluate("byId('settings').open = true")
        tab.select_option("#second-model", second_model)
        set_numbers(tab, temperature="0", max_tokens="12")
        return tab, log

    return open_page
