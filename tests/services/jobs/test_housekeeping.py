"""What happens now and then, and what is past keeping."""

from __future__ import annotations

import pytest

from services.errors import NotFound
from services.jobs.housekeeping import Housekeeper, Tidied
from tests.services.shop import Shop


def keeper(shop: Shop, **options: float) -> Housekeeper:
    return Housekeeper(shop.db, shop.jobs, shop.artifacts, clock=shop.clock, **options)


def test_leases_every_round_and_files_now_and_then(shop: Shop) -> None:
    house = keeper(shop, sweep_every_s=60.0)
    assert house.round() == Tidied()
    shop.submit("alice", frames=2)
    shop.jobs.lease("worker", 2)
    shop.artifacts.put("alice", b"nobody's", "image/png", temporary=True)
    shop.clock.advance(5)
    assert house.round() == Tidied(leases=2)
    shop.clock.advance(400)
    assert house.round() == Tidied(artifacts=2)
    shop.clock.advance(-1000)
    house.round()
    shop.artifacts.put("alice", b"nobody's", "image/png", temporary=True)
    shop.clock.advance(400)
    assert house.round().artifacts == 2, "a clock that was put back does not stop it"


def test_retention_forgets_old_stories_and_uploads_but_no_references(shop: Shop) -> None:
    from tests.services.store.test_library import MIA, png, read_picture

    old = shop.submit("alice", frames=1)
    shop.draw_all()
    upload = shop.artifacts.put("alice", b"upload", "image/png")
    mia = shop.library.create("alice", MIA)
    picture = read_picture(png())
    shown = shop.artifacts.put("alice", picture.data, "image/png")
    shop.library.add_reference("alice", mia.id, shown.id, picture.quality)
    waiting = shop.submit("alice", frames=1)
    house = keeper(shop, retention_days=2.0)
    shop.clock.advance(86_400)
    fresh = shop.artifacts.put("alice", b"fresh", "image/png")
    assert house.round() == Tidied()
    shop.clock.advance(1.5 * 86_400)
    done = house.round()
    assert done.stories == 1 and done.artifacts >= 2
    for job in (old,):
        with pytest.raises(NotFound):
            shop.stories.get("alice", job.story)
    with pytest.raises(NotFound):
        shop.artifacts.open("alice", upload.id)
    assert shop.stories.get("alice", waiting.story), "it still waits to be drawn"
    assert shop.artifacts.read("alice", shown.id) and shop.artifacts.read("alice", fresh.id)


def test_without_retention_nothing_is_forgotten(shop: Shop) -> None:
    job = shop.submit("alice", frames=1)
    shop.draw_all()
    upload = shop.artifacts.put("alice", b"upload", "image/png")
    shop.clock.advance(10 * 365 * 86_400)
    assert keeper(shop).round() == Tidied()
    assert shop.stories.get("alice", job.story).frames[0].current == 1
    assert shop.artifacts.read("alice", upload.id)
