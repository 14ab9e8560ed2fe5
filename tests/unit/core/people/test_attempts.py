"""The limits of attempts to sign in, with a clock of the test."""

from __future__ import annotations

import pytest

from hive_core.people.attempts import Attempts, TooSoon, bucket, clean_address
from tests.unit.core.people.people_hive import DAY, HOUR

HOME, OTHER = "192.0.2.1", "198.51.100.7"


class Door:
    """Attempts at a time that tests move, in milliseconds."""

    def __init__(self) -> None:
        self.attempts = Attempts()
        self.now = 1_000 * DAY

    def wait(self, name: str = "ada", address: str = HOME, *, is_person: bool = True) -> int:
        """Make an attempt with a wrong password, and return the seconds that it has to wait; 0 if it is made."""
        try:
            self.attempts.begin(name, address, self.now, is_person=is_person)
        except TooSoon as refusal:
            return refusal.seconds
        return 0

    def succeed(self, name: str = "ada", address: str = HOME) -> None:
        """Sign in with the right password."""
        self.attempts.begin(name, address, self.now, is_person=True)
        self.attempts.succeed(name, address, self.now)

    def made(self, seconds: int, name: str = "ada", address: str = HOME, *, is_person: bool = True) -> int:
        """Try once a second, and return the number of attempts that were made."""
        made = 0
        for _ in range(seconds):
            made += not self.wait(name, address, is_person=is_person)
            self.now += 1_000
        return made


@pytest.fixture
def door() -> Door:
    return Door()


def test_wrong_passwords_are_followed_by_growing_waits(door: Door) -> None:
    """Five attempts are free, and each further one waits twice as long; attempts in a wait do not prolong it."""
    assert [door.wait() for _ in range(6)] == [0, 0, 0, 0, 0, 1]
    waits = []
    for _ in range(10):
        waits.append(door.wait())
        assert door.wait() == waits[-1], "asking again makes it no longer"
        door.now += waits[-1] * 1_000
        assert door.wait() == 0
    assert waits == [2**number for number in range(10)]


def test_the_longest_wait_is_15_minutes(door: Door) -> None:
    """A guesser at one address has about a hundred attempts in a day, and never waits for longer."""
    assert door.made(24 * 3_600) <= 5 + 11 + 24 * 4 + 1
    assert 0 < door.wait() <= 15 * 60


def test_success_ends_waits(door: Door) -> None:
    """After a right password the wrong ones before it count no more."""
    for _ in range(4):
        assert door.wait() == 0
    door.succeed()
    assert [door.wait() for _ in range(5)] == [0] * 5


def test_guessing_from_many_addresses_is_limited(door: Door) -> None:
    """A name may have 30 wrong passwords from all addresses, and one more a minute."""
    made = sum(not door.wait(address=f"10.0.{number // 250}.{number % 250}") for number in range(1_000))
    assert made == 30
    assert door.wait(address="10.9.9.9") == 60
    door.now += HOUR
    made = sum(not door.wait(address=f"10.1.{number // 250}.{number % 250}") for number in range(1_000))
    assert made == 30


def test_guessing_does_not_keep_the_person_out(door: Door) -> None:
    """Wherever others guess, the person is not refused at an address from which they have signed in."""
    door.succeed()
    for number in range(1_000):
        door.wait(address=f"10.0.{number // 250}.{number % 250}")
    assert door.wait(address=OTHER) > 0
    door.succeed()


def test_guessing_at_the_persons_own_address_delays_by_seconds(door: Door) -> None:
    """A person who shares the address with others waits for 30 seconds at most."""
    door.succeed()
    guesses = door.made(3_600)
    assert guesses <= 5 + 5 + 3_600 // 30 + 1
    assert door.wait() <= 30
    door.now += 30_000
    door.succeed()


def test_trying_many_names_at_one_address_is_limited(door: Door) -> None:
    """An address has 100 attempts with all names, and one more each 10 seconds; those who are known there stay free."""
    door.succeed()
    made = sum(not door.wait(f"name-{number}", is_person=False) for number in range(1_000))
    assert made == 100
    assert door.wait("bob") == 10
    door.succeed()
    assert door.wait("bob", OTHER) == 0


def test_the_counts_are_bounded(door: Door) -> None:
    """A flood of names and addresses takes bounded memory, and does not free the person whose password is guessed."""
    for number in range(100):
        door.wait(address=f"10.0.0.{number}")
    for number in range(20_000):
        door.wait(f"name-{number}", f"10.1.{number // 250}.{number % 250}", is_person=False)
    assert door.wait(address="10.9.9.9") > 0
    attempts = door.attempts
    assert len(attempts._pairs) <= 4_096
    assert max(len(attempts._by_unknown_name._levels), len(attempts._by_address._levels)) <= 4_096


def test_an_attempt_that_was_not_carried_out_does_not_count(door: Door) -> None:
    """An attempt that is taken back leaves no trace."""
    for _ in range(1_000):
        assert door.wait() == 0
        door.attempts.take_back("ada", HOME, door.now, is_person=True)


def test_addresses_are_forgotten(door: Door) -> None:
    """An address is known for 90 days, and no longer than the account."""
    door.succeed()
    assert door.attempts.is_known("ada", HOME, door.now + 90 * DAY - 1)
    assert not door.attempts.is_known("ada", HOME, door.now + 90 * DAY)
    assert not door.attempts.is_known("bob", HOME, door.now)
    door.attempts.forget("ada")
    assert not door.attempts.is_known("ada", HOME, door.now)


@pytest.mark.parametrize(
    ("claimed", "clean", "counted"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::ffff:1", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("", "", ""),
        ("unknown", "", ""),
        ("1.2.3.4\x1b[2J", "", ""),
        ("9" * 5_000, "", ""),
        ("192.0.2.1, 10.0.0.1", "", ""),
    ],
)
def test_addresses(claimed: str, clean: str, counted: str) -> None:
    """An address has one spelling, whoever has one of IPv6 has its network, and other texts count as none."""
    assert clean_address(claimed) == clean
    assert bucket(clean) == counted
