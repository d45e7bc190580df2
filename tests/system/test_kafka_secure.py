"""A Kafka that asks who we are and what we may (docs/kafka.md): what is wrong is told in words, and nothing is confirmed that is not stored."""
import pytest
from harness import until
from kafka import queue, wait_open
from kafka_load import STREAM
from kafka_secure import CREATE, DELETE, GROUP, READ, RIGHTS, TOPIC, WRITE, Secure
from wire import Refused, bodies, peer

pytestmark = pytest.mark.anyone
KAFKA = Secure


@pytest.fixture
def secure_home(make_home, kafka):
    """A home that has all its rights, or those that are said, and a file of settings."""
    def make(rights=None, **settings):
        prefix = kafka.next_prefix()
        home = make_home()
        home.sent = 0
        home.settings = home.base / "kafka.properties"
        conf = home.path / "conf/mysimbdp.conf"
        conf.write_text(conf.read_text().replace(
            "platform = {", f'platform = {{ kafka = {{ brokers = "{kafka.brokers}"; prefix = "{prefix}"; properties_file = "{home.settings}"; }};'))
        configure(home, kafka, **settings)
        home.topic, home.prefix = f"{prefix}.acme.events", prefix
        home.streams(("events", 'store = "kafka"; dedup_window_s = 0;'))
        kafka.allow(prefix, *(() if rights is None else (rights,)))
        home.broker()
        return home
    yield make
    kafka.mend()
    for prefix in ("another", *(f"t{i + 1}" for i in range(kafka.n_prefixes))):  # what one may would help another
        kafka.take_away(prefix, *RIGHTS)


def configure(home, kafka, **settings):
    home.settings.write_text(kafka.properties(**settings))
    home.settings.chmod(0o600)


def told(home, text, timeout=60):
    """By the listing, and by doctor and status."""
    until(lambda: text in (queue(home)["kafka"] or ""), home.path / "state", timeout=timeout, what=lambda: f"{text}: {queue(home)['kafka']}")
    said = home.cli("doctor", check=False).stdout
    assert STREAM in said and text in said, said
    return said


def refused(home):
    with peer(home) as p, pytest.raises(Refused, match="full.*Kafka") as e:
        p.publish(STREAM, bodies(1, start=home.sent), 7, home.sent + 1)
    return str(e.value)


def works(home, is_open=True):
    """Two messages more, all the way."""
    if is_open:
        wait_open(home)
    want = bodies(2, start=home.sent)
    with peer(home) as p:
        def confirmed():
            try:
                return sum(p.publish(STREAM, want, 7, home.sent + 1)[1:]) == 2
            except Refused:
                assert not is_open
        until(confirmed, home.base, what=lambda: f"the confirm: {queue(home)}")
        home.sent += 2
        p.subscribe(STREAM, "consume")
        got = []
        while len(got) < 2:
            more = p.take(1, timeout=20)
            assert more, queue(home)
            got += more
        assert [m.body for m in got] == want and p.ack(got) == 2


def test_a_name_and_a_password_over_tls(secure_home, kafka):
    home = secure_home(password="wrong")
    assert "properties_file" in told(home, "Authentication failed")
    assert "Authentication failed" in refused(home)
    configure(home, kafka)
    home.control({"op": "reload"}, "broker.sock")
    works(home)
    until(lambda: kafka.first_offset(home.topic) == 2, home.path / "state", what="that records are given up")
    assert "let me in" not in "".join(f.read_text(errors="replace") for f in home.base.glob("*.err"))


@pytest.mark.soak
def test_a_stranger_is_not_trusted(secure_home, kafka):
    """The certificate of Kafka's nodes is not of the CA that we were told."""
    home = secure_home(ca="other")
    told(home, "certificate verify failed")
    refused(home)
    configure(home, kafka)
    home.control({"op": "reload"}, "broker.sock")
    works(home)


@pytest.mark.soak
def test_a_certificate_that_has_expired(secure_home, kafka):
    home = secure_home()
    works(home)

    def restart(days):
        kafka.certify(days)
        for i in kafka.ports:
            kafka.kill(i)
            kafka.start(i)
        kafka.wait_up()
    restart(-1)
    try:
        told(home, "certificate verify failed")
        refused(home)
    finally:
        restart(2)
    works(home)


def without(*rights):
    return [r for r in RIGHTS if r not in rights]


@pytest.mark.soak
def test_topics_may_not_be_made(secure_home, kafka):
    home = secure_home(without((TOPIC, CREATE)))
    assert "kafka-acls" in told(home, "cannot be made: Broker: Topic authorization failed")
    refused(home)
    kafka.allow(home.prefix)
    works(home)
    kafka.take_away(home.prefix, (TOPIC, CREATE))  # it is there, so nobody has to make it
    home.stop_broker()
    home.broker()
    works(home)


def test_nothing_may_be_written(secure_home, kafka):
    home = secure_home(without((TOPIC, WRITE)))
    assert "kafka-acls" in told(home, "Cluster authorization failed")  # an idempotent producer has to have it for any topic
    refused(home)
    assert (home.base / "broker.err").read_text().count("another one is started") < 20
    kafka.allow(home.prefix)
    works(home)
    kafka.take_away(home.prefix, (TOPIC, WRITE))
    kafka.allow("another", [(TOPIC, WRITE)])
    until(lambda: "authorization failed" in refused(home), home.base, what="the refusal")
    assert "kafka-acls" in told(home, "nothing can be published: Broker: Topic authorization failed")
    kafka.allow(home.prefix)
    works(home, is_open=False)
    wait_open(home)
    assert queue(home)["published"] == home.sent


@pytest.mark.soak
def test_nothing_may_be_read(secure_home, kafka):
    """Records are not given; what was confirmed is there afterwards."""
    home = secure_home()
    works(home)
    kafka.take_away(home.prefix, (TOPIC, READ))
    assert "kafka-acls" in told(home, "no messages come")
    kafka.allow(home.prefix)
    works(home)


@pytest.mark.soak
def test_offsets_may_not_be_committed(secure_home, kafka):
    """Of the stream's group, by which the topic is known for ours; or later, of its apps'."""
    home = secure_home(without((GROUP, READ)))
    assert "kafka-acls" in told(home, "Group authorization failed")
    refused(home)
    kafka.allow(home.prefix)
    works(home)
    kafka.take_away(home.prefix, (GROUP, READ))
    works(home)
    assert "kafka-acls" in told(home, "where apps are cannot be committed")
    kafka.allow(home.prefix)
    wait_open(home)
    until(lambda: (kafka.committed(f"{home.topic}.consume", home.topic) or (0,))[0] == 4, home.path / "state", what="the offset")


@pytest.mark.soak
def test_records_may_not_be_given_up(secure_home, kafka):
    """The stream works; the topic grows, and that is told."""
    home = secure_home(without((TOPIC, DELETE)))
    works(home)
    assert "kafka-acls" in told(home, "records that are done cannot be deleted")
    works(home, is_open=False)
    kafka.allow(home.prefix)
    until(lambda: kafka.first_offset(home.topic) == 4, home.path / "state", what="that records are given up")
    wait_open(home)
