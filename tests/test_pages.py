"""Packages that load on first use."""

import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from distgrad._pages import Page, page

CODE = """
import sys, time
sys.page_loads = getattr(sys, "page_loads", 0) + 1
time.sleep(0.05)  # time for a second thread to come
value = 42
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "page_of_the_test.py"
    sys.modules.pop("page_of_the_test", None)
    if hasattr(sys, "page_loads"):
        del sys.page_loads


def test_loads_once_when_several_threads_ask(written: Path) -> None:
    written.write_text(CODE)
    module = page("page_of_the_test")
    assert isinstance(module, Page) and not hasattr(sys, "page_loads")
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(module.value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 4
    assert sys.page_loads == 1  # type: ignore[attr-defined]
    assert type(module) is ModuleType
    assert page("page_of_the_test") is module


def test_missing_names_are_named(written: Path) -> None:
    written.write_text("value = 1")
    with pytest.raises(AttributeError, match="'page_of_the_test' has no attribute 'nothing'"):
        page("page_of_the_test").nothing  # noqa: B018


def test_an_error_in_its_code_shows_each_time(written: Path) -> None:
    written.write_text(textwrap.dedent("raise ValueError('broken')"))
    module = page("page_of_the_test")
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            module.value  # noqa: B018


def test_a_module_of_a_page_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_the_test"
    package.mkdir()
    (package / "__init__.py").write_text("from ._inside import state")
    (package / "_inside.py").write_text("state = []")
    monkeypatch.syspath_prepend(tmp_path)
    page("package_of_the_test")
    from package_of_the_test._inside import state  # type: ignore[import-not-found]

    inside = sys.modules["package_of_the_test._inside"]
    assert sys.modules["package_of_the_test"].state is state is inside.state  # type: ignore[attr-defined]
    assert inside.__spec__ is not None and inside.__spec__.origin == str(package / "_inside.py")
    for name in ("package_of_the_test", "package_of_the_test._inside"):
        del sys.modules[name]
