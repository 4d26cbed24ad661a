"""Storms: what comes back of our own publishes too fast stops its mapping, and nothing else does."""

import logging
from collections.abc import Callable

import pytest

from bridge.outbox.storms import TOPICS, Storms
from bridge.rules.loops import STORM_ECHOES, STORM_PAUSE_S, STORM_S

LAMP, STATE = "zigbee2mqtt/lamp/set", "zigbee2mqtt/lamp"


class Weather:
    """Storms, and the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.storms = Storms(lambda: self.now)

    def echoes(self, count: int, *, mapping: str = "lamps", command: str = LAMP, comes: str = STATE) -> list[bool]:
        """Publish *count* times, and return whether the mapping must not take what comes of each."""
        found = []
        for _ in range(count):
            self.storms.published(command)
            found.append(self.storms.stopped(mapping, comes))
        return found


@pytest.fixture
def weather() -> Weather:
    return Weather()


def test_a_mapping_is_stopped_by_one_echo_too_many(weather: Weather) -> None:
    assert weather.echoes(STORM_ECHOES + 3) == [False] * STORM_ECHOES + [True] * 3
    assert weather.storms.now_stopped() == {"lamps"}


def test_what_comes_from_the_command_topic_itself_is_an_echo_too(weather: Weather) -> None:
    assert weather.echoes(STORM_ECHOES + 1, comes=LAMP)[-1]


def test_what_we_have_not_published_to_makes_no_storm(weather: Weather) -> None:
    assert not any(weather.echoes(10 * STORM_ECHOES, comes="zigbee2mqtt/door"))
    assert weather.storms.now_stopped() == frozenset()


def test_what_comes_long_after_we_published_is_no_echo(weather: Weather) -> None:
    weather.storms.published(LAMP)
    weather.now += STORM_S + 1
    assert not any(weather.storms.stopped("lamps", STATE) for _ in range(10 * STORM_ECHOES))


def test_a_house_that_speaks_slowly_makes_no_storm(weather: Weather) -> None:
    for _ in range(5 * STORM_ECHOES):
        weather.now += 1.1 * STORM_S / STORM_ECHOES
        assert weather.echoes(1) == [False]


def test_other_mappings_go_on(weather: Weather) -> None:
    weather.echoes(STORM_ECHOES + 1)
    assert not weather.storms.stopped("other", STATE)
    assert weather.storms.now_stopped() == {"lamps"}


def test_it_stays_stopped_for_the_whole_pause_though_nothing_more_is_published(weather: Weather) -> None:
    """One that is stopped publishes nothing, and so hears no echo: it must not begin again for that."""
    weather.echoes(STORM_ECHOES + 1)
    ends = weather.now + STORM_PAUSE_S
    while weather.now < ends:
        assert weather.storms.now_stopped() == {"lamps"}
        assert weather.storms.stopped("lamps", STATE), f"{ends - weather.now:.0f} s are left of its pause"
        weather.now += 1.0


def test_it_is_tried_again_after_its_pause_and_stopped_again_if_nothing_has_changed(weather: Weather) -> None:
    weather.echoes(STORM_ECHOES + 1)
    weather.now += STORM_PAUSE_S
    assert weather.storms.now_stopped() == frozenset()
    assert weather.echoes(STORM_ECHOES + 1) == [False] * STORM_ECHOES + [True]


def test_a_storm_is_told_once_and_its_end_once(weather: Weather, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        weather.echoes(STORM_ECHOES)
        assert not [record for record in caplog.records if record.levelno == logging.ERROR]
        weather.echoes(50)
        (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert told.getMessage().startswith(f"storm mapping=lamps topic='{STATE}' echoes={STORM_ECHOES}; it is stopped for {STORM_PAUSE_S:.0f} s")
        caplog.clear()
        weather.now += STORM_PAUSE_S
        weather.echoes(1)
        assert [record.getMessage() for record in caplog.records] == ["storm over mapping=lamps dropped=50; it goes on"]
        caplog.clear()
        weather.now += STORM_S
        weather.echoes(2)
        assert not caplog.records
        weather.now += STORM_S


@pytest.mark.parametrize("looks", [lambda storms: storms.now_stopped(), lambda storms: storms.stopped("lamps", "zigbee2mqtt/door"), lambda storms: storms.stopped("other", LAMP)])
def test_its_end_is_told_although_no_echo_comes_any_more(weather: Weather, caplog: pytest.LogCaptureFixture, looks: Callable[[Storms], object]) -> None:
    """A loop that was cut is silent: of what it feeds nothing comes that could tell that the mapping goes on."""
    caplog.set_level(logging.INFO)
    weather.echoes(STORM_ECHOES + 7)
    caplog.clear()
    weather.now += STORM_PAUSE_S - 1
    looks(weather.storms)
    assert not caplog.records
    weather.now += 1
    for _ in range(2):
        looks(weather.storms)
        assert [record.getMessage() for record in caplog.records] == ["storm over mapping=lamps dropped=7; it goes on"]


def test_only_so_many_topics_are_known_those_published_to_last(weather: Weather) -> None:
    weather.storms.published("first")
    weather.storms.published("second")
    for n in range(TOPICS - 2):
        weather.storms.published(f"t{n}")
    weather.storms.published("first")
    weather.storms.published("new")
    assert weather.storms.stopped("a", "second") is any(weather.storms.stopped("a", "second") for _ in range(2 * STORM_ECHOES)) is False
    assert any(weather.storms.stopped("b", "first") for _ in range(2 * STORM_ECHOES))
