"""The texts of `ectrans.notifyAuth` and `notifyPublish`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ecpds.engine.host_notices import HostNotice, parse_auth
from ecpds.engine.host_publish import asks_sha512, check_notice
from ecpds.engine.publish_drivers import LinkDriver
from ecpds.model.decode import Where
from ecpds.model.errors import ConfigError
from ecpds.model.secret import Secret
from ecpds.transfer.options import EctransOptions
from tests.clock import FakeClock

AUTH = "url=mqtts://b1:8884|b2;name=hub;password=secret"
WHERE = Where(path=("options",))


def notice(publish: str, auth: str = AUTH) -> HostNotice | None:
    """Return what the two options lead to."""
    given = {"ectrans.notifyAuth": auth, "ectrans.notifyPublish": publish}
    return HostNotice.of("out", EctransOptions.read(given))


def test_brokers_login_and_password_are_read() -> None:
    """Default ports, IPv6, and what holds a semicolon."""
    assert parse_auth(AUTH) == ((("mqtts", "b1", 8884), ("mqtts", "b2", 8883)), "hub",
                                Secret("secret"))  # fmt: skip
    brokers, _, password = parse_auth(r"url=mqtt://[::1]/; name = x; password=a\;b=c;")
    assert (brokers, password) == ((("mqtt", "::1", 1883),), Secret("a;b=c"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("url=mqtt://b", "has no name and no password"),
        ("url=http://b;name=a;password=b", "url is not mqtt"),
        ("url=mqtt://a@b;name=a;password=b", "url is not mqtt"),
        ("url=mqtt://b:port;name=a;password=b", "url is not mqtt"),
        ("url=mqtt://b|;name=a;password=b", "url is not mqtt"),
        ("url=mqtt://b;nam=a;password=b", "no part 'nam' .did you mean 'name'"),
        ("url=mqtt://b;name=a;name=b;password=b", "says name twice"),
        ("mqtt://b", "is not name=value"),
    ],
)
def test_a_wrong_broker_is_refused_at_its_option(text: str, says: str) -> None:
    """With the option as the place."""
    with pytest.raises(ConfigError, match=says) as error:
        check_notice({"ectrans.notifyAuth": text}, WHERE)
    assert error.value.key == "options.ectrans.notifyAuth"


def test_no_error_shows_a_piece_of_the_password() -> None:
    """A semicolon in it that was not escaped begins a part that nobody knows."""
    with pytest.raises(ConfigError) as error:
        parse_auth("url=mqtt://b;name=a;password=b;hunter2=c")
    assert "hunter2" not in error.value.message


def test_texts_of_a_message_are_read() -> None:
    """A separator that begins no part belongs to the value; so does an escaped one."""
    text = r"topic=a/{destination};payload={{ '; ' }}\;x=1;metadata=a=1, 2,b.c=$x,d=;lifetime=1500"
    found = notice(text)
    assert found is not None
    assert (found.topic, found.payload) == ("a/{destination}", "{{ '; ' }};x=1")
    assert found.metadata == (("a", "1, 2"), ("b.c", "$x"), ("d", ""))
    assert found.lifetime == timedelta(milliseconds=1500)
    assert found.kind == "host:out"
    assert "secret" not in repr(found)
    other = notice("key=t;url=p $url;value=sum={{ sha512 }};lifetime=-1")
    assert other is not None
    assert (other.topic, other.payload, other.lifetime) == ("t", "p $url", None)
    assert asks_sha512(other)
    assert not asks_sha512(found)


@pytest.mark.parametrize(
    "text", ["", "topic=t;payload=p", "topic=;payload=p;metadata=k=v", "payload=p;metadata=k=v"]
)
def test_nothing_is_sent_unless_all_three_are_there(text: str) -> None:
    """Topic, payload and metadata, and a broker."""
    assert notice(text) is None
    assert notice("topic=t;payload=p;metadata=k=v", auth="") is None
    assert HostNotice.of("out", EctransOptions()) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("topic=t;paylod=p", "did you mean 'payload'"),
        ("topic=t;key=t", "says topic twice"),
        ("topic=t;payload=p;metadata=k", "metadata is not name=value,name=value"),
        ("lifetime=1h", "lifetime is milliseconds"),
        ("lifetime=0", "lifetime is milliseconds"),
        ("topic={{ x;payload=p;metadata=k=v", "template"),
        ("topic=t;payload=p;metadata=k={{ v", "template"),
    ],
)
def test_a_wrong_message_is_refused_at_its_option(text: str, says: str) -> None:
    """Also a template that cannot be compiled."""
    check_notice({"ectrans.notifyPublish": "topic={{ filename }};payload=p"}, WHERE)
    with pytest.raises(ConfigError, match=says) as error:
        check_notice({"ectrans.notifyPublish": text}, WHERE)
    assert error.value.key == "options.ectrans.notifyPublish"


class _Link:
    """A connection that only knows whether it is closed."""

    is_connected = True

    async def close(self) -> None:
        self.is_connected = False


async def test_a_connection_is_kept_for_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not longer, and a driver without one can be forgotten."""
    clock, link = FakeClock(), _Link()
    driver = LinkDriver((), clock)
    assert await driver.close_idle()
    monkeypatch.setattr(driver, "_link", link)
    await clock.advance(timedelta(minutes=4, seconds=59))
    assert not await driver.close_idle()
    assert link.is_connected
    await clock.advance(timedelta(seconds=1))
    assert await driver.close_idle()
    assert not link.is_connected
