"""Write keys and the view that resolves them."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from groundswell.errors import InvalidInput, NotFound, Unauthorized, Unavailable
from groundswell.store import ControlView, Manifest, Store
from groundswell.testing.clock import ManualClock


@pytest.fixture
def web(store: Store) -> Store:
    store.apply(Manifest.parse("sources: {web: , app: }"), by="ada")
    return store


def test_a_key_leads_to_its_source(web: Store) -> None:
    keys = {web.create_key(source, by="ada"): source for source in ("web", "app", "web")}

    assert len(keys) == 3
    assert {key: web.resolve_key(key) for key in keys} == keys


def test_only_a_hash_of_a_key_is_stored(web: Store) -> None:
    key = web.create_key("web", by="ada")
    secret = key.rsplit("_", 1)[1]
    web.close()

    with sqlite3.connect(web.path) as connection:
        stored = "\n".join(connection.iterdump())
    connection.close()

    assert secret not in stored
    assert hashlib.sha256(key.encode()).hexdigest() in stored


def test_a_key_needs_a_source(web: Store) -> None:
    with pytest.raises(NotFound, match="no source nowhere"):
        web.create_key("nowhere", by="ada")


def test_a_revoked_key_is_told_from_an_unknown_one(web: Store) -> None:
    key = web.create_key("web", by="ada")
    info = web.revoke_key(key, by="bob")

    assert (info.source, info.revoked_by) == ("web", "bob")
    with pytest.raises(Unauthorized, match=f"{info.key_id} of source web was revoked at 2026-02-01"):
        web.resolve_key(key)
    with pytest.raises(Unauthorized, match="unknown"):
        web.resolve_key(key[:-1])
    with pytest.raises(Unauthorized, match="unknown"):
        web.resolve_key("")
    with pytest.raises(Unauthorized, match="unknown"):
        web.resolve_key("\ud800" * 10)
    with pytest.raises(Unauthorized, match="unknown"):
        web.resolve_key("x" * 10_000_000)


def test_the_message_about_a_key_never_shows_its_secret(web: Store) -> None:
    key = web.create_key("web", by="ada")
    web.revoke_key(key, by="bob")

    with pytest.raises(Unauthorized) as revoked:
        web.resolve_key(key)
    with pytest.raises(NotFound) as unknown:
        web.revoke_key("gsw_ffffffff_" + "5" * 64, by="ada")

    assert key.rsplit("_", 1)[1] not in str(revoked.value)
    assert "5" * 64 not in str(unknown.value)


def test_a_key_is_revoked_by_a_beginning_that_only_it_has(tmp_path: Path, clock: ManualClock) -> None:
    numbers = iter([b"\xaa\xaa\xaa\x01", b"1" * 32, b"\xaa\xaa\xaa\x02", b"2" * 32])
    store = Store.open(tmp_path / "control.db", clock, random_bytes=lambda size: next(numbers)[:size])
    store.apply(Manifest.parse("sources: {web: }"), by="ada")
    first, second = store.create_key("web", by="ada"), store.create_key("web", by="ada")

    with pytest.raises(InvalidInput, match="2 begin so"):
        store.revoke_key("gsw_aaaaaa", by="ada")
    for nothing in ("", "gsw_", "gsw_b"):
        with pytest.raises(NotFound):
            store.revoke_key(nothing, by="ada")
    store.revoke_key("aaaaaa01", by="ada")

    listed = store.keys()
    assert [info.revoked_at_us is None for info in listed] == [False, True]
    assert store.resolve_key(second) == "web"
    with pytest.raises(Unauthorized):
        store.resolve_key(first)
    store.close()


def test_revoking_twice_keeps_the_first(web: Store, clock: ManualClock) -> None:
    key = web.create_key("web", by="ada")
    first = web.revoke_key(key, by="bob")
    clock.advance(60)

    assert web.revoke_key(key, by="cy") == first
    assert [(entry.action, entry.by) for entry in web.audit_trail() if entry.kind == "key"] == [
        ("created", "ada"),
        ("revoked", "bob"),
    ]


def test_keys_do_not_move_the_version_of_the_definitions(web: Store) -> None:
    before = web.versions()

    web.create_key("web", by="ada")

    assert web.versions() == (before[0], before[1] + 1)


# --- the view --------------------------------------------------------------------------------------------------


def test_a_view_sees_a_change_within_a_second(web: Store, clock: ManualClock) -> None:
    view = ControlView(web, clock)
    web.apply(Manifest.parse("events: {view: }"), by="ada")

    assert "view" not in view.definitions().events
    clock.advance(1.0)
    assert "view" in view.definitions().events


def test_a_view_refuses_a_revoked_key_within_a_second(web: Store, clock: ManualClock) -> None:
    key = web.create_key("web", by="ada")
    view = ControlView(web, clock)
    web.revoke_key(key, by="ada")

    assert view.resolve_key(key) == "web"
    clock.advance(1.0)
    with pytest.raises(Unauthorized, match="revoked"):
        view.resolve_key(key)


def test_a_new_key_works_at_once(web: Store, clock: ManualClock) -> None:
    view = ControlView(web, clock)
    key = web.create_key("web", by="ada")
    clock.advance(0.1)

    assert view.resolve_key(key) == "web"


def test_guessing_keys_asks_the_database_ten_times_a_second_at_most(
    web: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ControlView(web, clock)
    asked = 0
    versions = web.versions

    def counted() -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return versions()

    monkeypatch.setattr(web, "versions", counted)
    for _ in range(1_000):
        clock.advance(0.001)
        with pytest.raises(Unauthorized):
            view.resolve_key("guess")

    assert 5 <= asked <= 11


def test_what_is_known_goes_on_while_the_database_is_away(web: Store, clock: ManualClock) -> None:
    key = web.create_key("web", by="ada")
    view = ControlView(web, clock)
    hidden = web.path.with_suffix(".away")
    web.close()
    web.path.rename(hidden)
    web.path.mkdir()
    clock.advance(5.0)

    assert view.resolve_key(key) == "web"
    assert "exposure" in view.definitions().events
    assert isinstance(view.problem, Unavailable)
    assert view.age_s == pytest.approx(5.0)

    web.path.rmdir()
    hidden.rename(web.path)
    clock.advance(1.0)
    assert view.resolve_key(key) == "web"
    assert view.problem is None
    assert view.age_s == pytest.approx(0.0)


def test_a_view_that_never_waits_is_refreshed_by_its_owner(web: Store, clock: ManualClock) -> None:
    view = ControlView(web, clock, max_age_s=float("inf"))
    key = web.create_key("web", by="ada")
    clock.advance(3_600)

    with pytest.raises(Unauthorized, match="unknown"):
        view.resolve_key(key)
    assert view.refresh()
    assert view.resolve_key(key) == "web"


def test_a_restored_backup_is_noticed(web: Store, clock: ManualClock, tmp_path: Path) -> None:
    web.copy_to(tmp_path / "backup.db")
    web.apply(Manifest.parse("events: {view: }"), by="ada")
    view = ControlView(web, clock)
    web.close()
    for file in tmp_path.glob("control.db*"):
        file.unlink()
    (tmp_path / "backup.db").rename(web.path)
    clock.advance(1.0)

    assert "view" not in view.definitions().events
